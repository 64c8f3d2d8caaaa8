"""What a training node shows while it runs: progress, the course of the loss, the newest preview, and a line of text."""

from pathlib import Path

import comfy.model_management
import comfy.utils
from PIL import Image, ImageDraw

from .messages import show

WIDTH, HEIGHT, MARGIN = 512, 160, 6
BACKGROUND, EACH, SMOOTH = (18, 18, 22), (70, 84, 104), (96, 178, 240)
SMOOTHING = 0.9  # share of the line's last value in its next
PICTURES = 200  # in the course of a run
LOSS = "transformer.loss"


class TrainingView:
    """A callback for the loop that raises when the user cancels.

    Args:
        node_id: whose node it is.
        folder: of the run, where its previews appear.
    """

    def __init__(self, node_id: str, folder: Path):
        self.node_id, self.folder, self.losses = node_id, folder, {}

    def preparing(self, done: float, of: float) -> None:
        """Called by `build_cache` after each piece of a clip."""
        self._advance(done, of, f"Encoding clip {min(int(done) + 1, of)} of {of}.")

    def training(self, done: int, of: int, figures: dict[str, float]) -> None:
        """Called by the loop after each update."""
        if LOSS in figures:
            self.losses[done] = figures[LOSS]
        text = f"Update {done} of {of}." + (f" Loss {figures[LOSS]:.3f}." if LOSS in figures else "")
        due = done % max(1, of // PICTURES) == 0 or done == of
        self._advance(done, of, text, ("JPEG", self.picture(of), None) if due else None)

    def _advance(self, done: float, of: float, text: str, preview=None) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        show(self.node_id, text)
        comfy.utils.ProgressBar(of).update_absolute(done, of, preview)

    def picture(self, steps: int) -> Image.Image:
        """The losses so far over all updates, and below them the spectrograms of the newest previews."""
        pictures = [draw_losses(self.losses, steps), *map(Image.open, self._spectrograms())]
        pictures = [picture.convert("RGB").resize((WIDTH, picture.height * WIDTH // picture.width)) for picture in pictures]
        canvas = Image.new("RGB", (WIDTH, sum(picture.height for picture in pictures)), BACKGROUND)
        top = 0
        for picture in pictures:
            canvas.paste(picture, (0, top))
            top += picture.height
        return canvas

    def _spectrograms(self) -> list[Path]:
        return sorted(self.folder.glob("previews/*/spectrograms.png"))[-1:]


def draw_losses(losses: dict[int, float], steps: int) -> Image.Image:
    """Each recorded loss as a dot, and a smoothed line through them; the highest at the top."""
    plot = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    pen = ImageDraw.Draw(plot)
    low, high = min(losses.values(), default=0.0), max(losses.values(), default=1.0)
    width, height, span = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN, max(high - low, 1e-9)
    line, smooth = [], None
    for step, loss in losses.items():
        smooth = loss if smooth is None else SMOOTHING * smooth + (1 - SMOOTHING) * loss
        x = MARGIN + width * step / steps
        y, smooth_y = (HEIGHT - MARGIN - height * (value - low) / span for value in (loss, smooth))
        pen.ellipse([x - 1, y - 1, x + 1, y + 1], fill=EACH)
        line.append((x, smooth_y))
    if len(line) > 1:
        pen.line(line, fill=SMOOTH, width=2)
        pen.text((WIDTH - MARGIN, MARGIN), f"loss {smooth:.3f}", fill=SMOOTH, anchor="ra")
    return plot
