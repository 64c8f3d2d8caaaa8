"""A line chart with logarithmic axes as a PNG."""

import math
from pathlib import Path

from PIL import Image, ImageDraw
from picture import BACKGROUND, FAINT, INK, font

WIDTH, HEIGHT = 1600, 900
LEFT, RIGHT, TOP, BOTTOM = 110, 330, 100, 80
COLOURS = [(96, 178, 240), (250, 204, 60), (120, 210, 130), (240, 110, 110), (190, 140, 250), (240, 160, 90)]

Line = list[tuple[float, float]]


def draw(path: Path, lines: dict[str, Line], title: str, across: str, upwards: str) -> None:
    """Writes the chart.

    Args:
        lines: points (x, y), all above 0, by the name that stands beside the line.
        across, upwards: what the axes show.
    """
    canvas = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    points = [point for line in lines.values() for point in line]
    place = _Axes([x for x, _ in points], [y for _, y in points])
    pen.text((LEFT, 34), title, fill=INK, font=font(26), anchor="lm")
    pen.text(((LEFT + WIDTH - RIGHT) // 2, HEIGHT - 24), across, fill=INK, font=font(22), anchor="mm")
    pen.text((LEFT, TOP - 10), upwards, fill=INK, font=font(20), anchor="lb")
    _grid(pen, place)
    for (name, line), colour in zip(lines.items(), COLOURS, strict=False):
        pen.line([place(x, y) for x, y in line], fill=colour, width=4)
        for x, y in line:
            across_, down = place(x, y)
            pen.ellipse((across_ - 6, down - 6, across_ + 6, down + 6), fill=colour)
    _legend(pen, list(lines))
    canvas.save(path)


class _Axes:
    """Places of points; both axes are logarithmic."""

    def __init__(self, xs: list[float], ys: list[float]):
        self.x = math.log10(min(xs)), math.log10(max(xs))
        self.y = math.log10(min(ys) / 1.2), math.log10(max(ys) * 1.2)

    def __call__(self, x: float, y: float) -> tuple[float, float]:
        right = (math.log10(x) - self.x[0]) / max(self.x[1] - self.x[0], 1e-9)
        up = (math.log10(y) - self.y[0]) / max(self.y[1] - self.y[0], 1e-9)
        return LEFT + right * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _grid(pen: ImageDraw.ImageDraw, place: _Axes) -> None:
    for axis, ticks in ((0, _ticks(*place.x)), (1, _ticks(*place.y))):
        for value in ticks:
            ends = [place(value, 10**end) for end in place.y] if axis == 0 else [place(10**end, value) for end in place.x]
            pen.line(ends, fill=FAINT)
            at = (ends[0][0], HEIGHT - BOTTOM + 22) if axis == 0 else (LEFT - 12, ends[0][1])
            pen.text(at, f"{value:g}", fill=INK, font=font(20), anchor="mm" if axis == 0 else "rm")


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 in each decade between two exponents."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [value for value in values if low - 1e-9 <= math.log10(value) <= high + 1e-9]


def _legend(pen: ImageDraw.ImageDraw, names: list[str]) -> None:
    for row, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        at = WIDTH - RIGHT + 30, TOP + 30 + 44 * row
        pen.line([at, (at[0] + 40, at[1])], fill=colour, width=6)
        pen.text((at[0] + 54, at[1]), name, fill=INK, font=font(22), anchor="lm")
