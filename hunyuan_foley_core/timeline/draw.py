"""The rows of the timeline, one below the other over one axis."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from ..errors import InputError
from ..media import resample, to_mono
from ..media.output import replacing
from ..onsets import onsets
from ..timing import SAMPLE_RATE
from . import lanes, paint, panels
from .lanes import Span
from .watch import watch

LEFT, RIGHT, TOP, BOTTOM, GAP = 112, 28, 58, 40, 10
MARK = 16  # height of the row of onsets
LEAST_WIDTH = 640
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)
_TICK_ROOM = 90  # pixels
_KILO = {100: "100 Hz", 1_000: "1 kHz", 10_000: "10 kHz"}

Sound = tuple[torch.Tensor, int]


def draw_timeline(
    frames: Iterable | None,
    seconds: float | None = None,
    *,
    sound: Sound | None = None,
    title: str = "",
    scenes: Sequence[Span] = (),
    windows: Sequence[Span] = (),
    prompts: Sequence[Span] = (),
    width: int = 1600,
) -> np.ndarray:
    """uint8 [H, width, 3], RGB; H depends on what there is to show.

    Args:
        frames: of the picture (`media.SelectedFrame`), read once as a stream; None without one.
        seconds: length of the axis; None: to the end of the picture, or of the sound where there is none.
        sound: waveform [channels, N] and its sample rate.
        scenes, windows, prompts: (start, end, label) in seconds; those that overlap lie below each other.

    InputError where there is neither a picture nor a sound, or the width is below 640.
    """
    if width < LEAST_WIDTH:
        raise InputError(f"The timeline was to be {width} pixels wide.", f"It needs {LEAST_WIDTH} at least.", "1600 is fine.")
    plot = width - LEFT - RIGHT
    watched = watch(frames, plot) if frames is not None else None
    mono = None if sound is None else _mono(*sound)
    pictured = watched is not None and watched.pictures
    seconds = seconds or (watched.seconds if pictured else 0.0) or (len(mono) / SAMPLE_RATE if mono is not None else 0.0)
    if not seconds > 0:
        raise InputError("There is neither a picture nor a sound.", "A timeline shows one of them at least.")

    hits = [] if mono is None else [float(time) for time in onsets(mono) if 0 <= time <= seconds]
    sheet = _Sheet(width, seconds, title, _facts(hits, mono))
    if pictured:
        sheet.add("picture", panels.strip(watched, seconds, plot))
        sheet.add("motion", panels.motion(watched, seconds, plot), hits)
    for name, spans, colour in (
        ("scenes", scenes, paint.SCENE), ("windows", windows, paint.WINDOW), ("prompts", prompts, paint.PROMPT)
    ):
        if spans:
            sheet.add_spans(name, [Span(*span) for span in spans], colour)
    if mono is not None:
        sheet.add_marks("onsets", hits)
        sheet.add("sound", panels.wave(mono, SAMPLE_RATE, seconds, plot), hits)
        sheet.add("", panels.spectrogram(mono, SAMPLE_RATE, seconds, plot), labels=_KILO)
    return sheet.finished()


def save(path: Path, image: np.ndarray) -> None:
    """Writes a PNG of uint8 [H, W, 3], whole or not at all. MediaError if it cannot be written."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, optimize=True)


def _mono(waveform: torch.Tensor, sample_rate: int) -> np.ndarray:
    return to_mono(resample(waveform, sample_rate, SAMPLE_RATE))[0].numpy()


def _facts(hits: list[float], mono: np.ndarray | None) -> list[str]:
    if mono is None:
        return []
    peak = float(np.abs(mono).max(initial=0))
    level = f"peak {20 * math.log10(peak):.1f} dBFS" if peak else "silent"
    return [level, f"{len(hits)} onset{'' if len(hits) == 1 else 's'}"]


def clock(time: float, step: float) -> str:
    """A time on the axis: seconds, or minutes and seconds from one minute on."""
    digits = 0 if step >= 1 else 1
    if time < 60:
        return f"{time:.{digits}f} s"
    return f"{int(time // 60)}:{time % 60:0{2 if not digits else 4}.{digits}f}"


class _Sheet:
    """Rows that are put down from above, and what is written beside them."""

    def __init__(self, width: int, seconds: float, title: str, facts: list[str]):
        self.width, self.plot, self.seconds = width, width - LEFT - RIGHT, seconds
        self.title, self.facts, self.height, self.rows = title, facts, TOP, []

    def add(self, name: str, panel: np.ndarray, hits: Sequence[float] = (), labels: dict[float, str] | None = None) -> None:
        panels.dim_lines(panel, [self._x(time) for time in self._ticks()[1:]], paint.INK, 0.10)
        panels.dim_lines(panel, [self._x(time) for time in hits], paint.ONSET, 0.45)
        image = Image.fromarray(np.clip(panel, 0, 255).round().astype(np.uint8))

        def draw(canvas, pen, top):
            canvas.paste(image, (LEFT, top))
            for frequency, text in (labels or {}).items():
                y = top + panels.frequency_row(frequency)
                pen.line([(LEFT - 6, y), (LEFT - 2, y)], fill=paint.FADED)
                pen.text((LEFT - 12, y), text, fill=paint.FADED, font=paint.font(14), anchor="rm")

        self._row(name, panel.shape[0], draw)

    def add_spans(self, name: str, spans: Sequence[Span], colour: paint.Colour) -> None:
        def draw(canvas, pen, top):
            lanes.draw_spans(pen, spans, LEFT, top, self.plot, self.seconds, colour)

        self._row(name, lanes.height_of(spans), draw, lanes.BAR)

    def add_marks(self, name: str, times: Sequence[float]) -> None:
        def draw(canvas, pen, top):
            for time in times:
                x, y = LEFT + self._x(time), top + MARK
                pen.polygon([(x - 5, y - 9), (x + 5, y - 9), (x, y + GAP - 3)], fill=paint.ONSET)

        self._row(name, MARK, draw)

    def finished(self) -> np.ndarray:
        canvas = Image.new("RGB", (self.width, self.height + BOTTOM), paint.PAPER)
        pen = ImageDraw.Draw(canvas)
        pen.text((LEFT, TOP / 2), self.title, fill=paint.INK, font=paint.font(22), anchor="lm")
        note = "    ".join([f"{self.seconds:.2f} s", *self.facts])
        pen.text((self.width - RIGHT, TOP / 2), note, fill=paint.FADED, font=paint.font(17), anchor="rm")
        for name, top, middle, draw in self.rows:
            pen.text((LEFT - 14, top + middle), name, fill=paint.FADED, font=paint.font(16), anchor="rm")
            draw(canvas, pen, top)
        self._axis(pen)
        return np.asarray(canvas)

    def _row(self, name: str, height: int, draw, label_height: int | None = None) -> None:
        self.rows.append((name, self.height, (label_height or height) / 2, draw))
        self.height += height + GAP

    def _axis(self, pen: ImageDraw.ImageDraw) -> None:
        top, ticks = self.height - GAP, self._ticks()
        for time in ticks:
            x = LEFT + self._x(time)
            pen.line([(x, top + 2), (x, top + 8)], fill=paint.FADED)
            text = clock(time, ticks[1] if len(ticks) > 1 else 1)
            pen.text((x, top + 13), text, fill=paint.INK, font=paint.font(15), anchor="ma")

    def _x(self, time: float) -> float:
        return time / self.seconds * self.plot

    def _ticks(self) -> list[float]:
        most = self.plot / _TICK_ROOM
        step = next((step for step in _TICKS if self.seconds / step <= most), 3600)
        return [number * step for number in range(int(self.seconds / step + 1e-6) + 1)]
