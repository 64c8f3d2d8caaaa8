"""A short film to try things on: a ball that bounces down and rolls against a wall."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT, RATE, SECONDS = 640, 360, 30, 6.0
FLOOR, WALL, RADIUS = 300, 600, 26  # pixels
GRAVITY, BOUNCE, SPEED = 1500.0, 0.72, 112.0  # pixels per s^2, share of speed kept, pixels per s
START = (60.0, 40.0)  # centre of the ball
OVERSAMPLING = 2  # drawn larger and shrunk, for smooth edges


def write(path: Path) -> None:
    """Writes the film as H.264 without sound; nothing is left at `path` if that is interrupted."""
    partial = path.with_name(f"partial-{path.name}")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, RATE)
        for index, (x, y) in enumerate(track()):
            frame = av.VideoFrame.from_ndarray(picture(x, y), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.replace(path)


def track() -> list[tuple[float, float]]:
    """The centre of the ball in each frame, in pixels."""
    (x, y), fall, speed, steps = START, 0.0, SPEED, 8
    centres = []
    for _ in range(round(SECONDS * RATE)):
        centres.append((x, y))
        for _ in range(steps):
            seconds = 1 / RATE / steps
            fall += GRAVITY * seconds
            x, y = x + speed * seconds, y + fall * seconds
            if y > FLOOR - RADIUS:
                y, fall = FLOOR - RADIUS, -BOUNCE * fall
            if x > WALL - RADIUS:
                x, speed = WALL - RADIUS, -BOUNCE * speed
    return centres


def picture(x: float, y: float) -> np.ndarray:
    """uint8 [HEIGHT, WIDTH, 3] with the ball's centre at (x, y)."""
    scale = OVERSAMPLING
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), (206, 216, 224))
    pen = ImageDraw.Draw(image)

    def box(left, top, right, bottom):
        return [value * scale for value in (left, top, right, bottom)]

    pen.rectangle(box(0, FLOOR, WIDTH, HEIGHT), fill=(120, 88, 62))
    pen.rectangle(box(WALL, 0, WIDTH, FLOOR), fill=(96, 104, 112))
    shadow = RADIUS * (0.5 + 0.5 * y / FLOOR)
    pen.ellipse(box(x - shadow, FLOOR + 6, x + shadow, FLOOR + 18), fill=(84, 60, 42))
    pen.ellipse(box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), fill=(214, 74, 44))
    pen.ellipse(box(x - RADIUS / 2, y - RADIUS / 2, x, y), fill=(244, 150, 120))
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
