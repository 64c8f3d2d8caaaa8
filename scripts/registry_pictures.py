"""Draws the pack's icon and banner, docs/registry/{icon,banner}.png: a ball that bounces, and the sound of its hits.

    python scripts/registry_pictures.py

Everything in them is drawn here, so they are under the licence of the code.
"""

import math
from itertools import pairwise
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "registry"
ICON, BANNER = (400, 400), (1680, 720)  # the registry shows an icon of at most 400 x 400 and a banner of 21:9
FINER = 3  # drawn larger and made smaller, for smooth edges
NIGHT, FLOOR, PATH, SOUND = "#14181f", "#3a4556", "#5c6b80", "#ffb454"
BALL = "#ff6b57"
DECAY = 7.0  # of a hit's sound, per unit of width


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    picture(ICON, hits=[(0.1, 0.9), (0.72, 0.74)], rounded=0.18, bars=19).save(FOLDER / "icon.png", optimize=True)
    hits = [(0.06, 0.0), (0.34, 0.78), (0.56, 0.6), (0.73, 0.45), (0.86, 0.33)]
    picture(BANNER, hits, rounded=0.0, bars=63).save(FOLDER / "banner.png", optimize=True)


def picture(size: tuple[int, int], hits: list[tuple[float, float]], rounded: float, bars: int) -> Image.Image:
    """A ball's way over the floor, and below it the sound of its hits.

    Args:
        size: width and height in pixels.
        hits: where the ball touches the floor, in widths, and how high it flew before that, 0 to 1.
        rounded: radius of the corners, in heights.
        bars: how many the sound is drawn with.
    """
    width, height = (FINER * side for side in size)
    image = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), rounded * height, fill=NIGHT)
    floor = 0.56 * height
    draw_flight(draw, hits, width, floor)
    draw.rounded_rectangle((0.06 * width, floor, 0.94 * width, floor + 0.012 * height), 0.006 * height, fill=FLOOR)
    draw_sound(draw, hits, bars, width, height)
    return image.resize(size, Image.Resampling.LANCZOS)


def draw_flight(draw: ImageDraw.ImageDraw, hits: list[tuple[float, float]], width: float, floor: float) -> None:
    radius = 0.13 * floor
    for (left, _), (right, high) in pairwise(hits):
        for place in dots(left * width, right * width, high * floor, floor - radius, gap=0.45 * radius):
            disc(draw, place, 0.12 * radius, PATH)
    (left, _), (right, high) = hits[-2:]
    disc(draw, flight(0.72, left * width, right * width, high * floor, floor - radius), radius, BALL)


def flight(share: float, left: float, right: float, high: float, ground: float) -> tuple[float, float]:
    """A place on the parabola between two hits."""
    return left + share * (right - left), ground - 4 * share * (1 - share) * high


def dots(left: float, right: float, high: float, ground: float, gap: float):
    """Places about `gap` apart along the parabola."""
    last = None
    for step in range(401):
        place = flight(step / 400, left, right, high, ground)
        if last is None or math.dist(last, place) >= gap:
            last = place
            yield place


def disc(draw: ImageDraw.ImageDraw, place: tuple[float, float], radius: float, colour: str) -> None:
    x, y = place
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def draw_sound(draw: ImageDraw.ImageDraw, hits: list[tuple[float, float]], bars: int, width: float, height: float) -> None:
    """Bars as high as what is heard there: each hit rises at once and dies away."""
    middle, highest, thick = 0.78 * height, 0.15 * height, 0.88 * width / bars * 0.55
    for number in range(bars):
        x = 0.06 * width + (number + 0.5) * 0.88 * width / bars
        level = max((loudness(x / width - place, high) for place, high in hits), default=0.0)
        half = max(level * highest, 0.5 * thick)
        draw.rounded_rectangle((x - thick / 2, middle - half, x + thick / 2, middle + half), thick / 2, fill=SOUND)


def loudness(since: float, high: float) -> float:
    if since < -0.012:
        return 0.0
    return (0.55 + 0.45 * high) * math.exp(-DECAY * since) * (0.62 + 0.38 * math.cos(40 * since) ** 2)


if __name__ == "__main__":
    main()
