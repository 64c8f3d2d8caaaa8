"""Spans of time as labelled bars: scenes, windows and prompts."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import ImageDraw

from . import paint

BAR, GAP = 26, 4
_PADDING, _LETTERS = 8, 15
MOST_LANES = 6


class Span(NamedTuple):
    """From `start` to `end` in seconds; the label may be empty."""

    start: float
    end: float
    label: str = ""


def stacked(spans: Sequence[Span]) -> list[int]:
    """The lane of each span, so that none lies on another: the first that is free."""
    ends: list[float] = []
    lanes = []
    for span in spans:
        lane = next((number for number, end in enumerate(ends) if end <= span.start + 1e-6), len(ends))
        ends[lane : lane + 1] = [span.end]
        lanes.append(min(lane, MOST_LANES - 1))
    return lanes


def height_of(spans: Sequence[Span]) -> int:
    return (max(stacked(spans), default=-1) + 1) * (BAR + GAP) - GAP if spans else 0


def draw_spans(
    pen: ImageDraw.ImageDraw, spans: Sequence[Span], left: int, top: int, width: int, seconds: float, colour: paint.Colour
) -> None:
    for span, lane in zip(spans, stacked(spans), strict=True):
        begin, end = (left + min(max(time, 0.0), seconds) / seconds * width for time in (span.start, span.end))
        y = top + lane * (BAR + GAP)
        box = begin + 0.5, y, max(end - 1.5, begin + 2), y + BAR - 1
        pen.rounded_rectangle(box, radius=5, fill=_deep(colour), outline=colour)
        label = shortened(span.label, box[2] - box[0] - 2 * _PADDING, pen)
        pen.text((box[0] + _PADDING, y + BAR / 2), label, fill=paint.INK, font=paint.font(_LETTERS), anchor="lm")


def shortened(text: str, room: float, pen: ImageDraw.ImageDraw) -> str:
    """As much of the text as fits into `room` pixels, with dots where something is missing."""
    text = " ".join(text.split())
    if pen.textlength(text, font=paint.font(_LETTERS)) <= room:
        return text
    while text and pen.textlength(f"{text}...", font=paint.font(_LETTERS)) > room:
        text = text[:-1].rstrip()
    return f"{text}..." if text else ""


def _deep(colour: paint.Colour) -> paint.Colour:
    """The colour halfway to the paper's."""
    return tuple((part + ground) // 2 for part, ground in zip(colour, paint.PANEL, strict=True))
