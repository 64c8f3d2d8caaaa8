"""A PNG that shows what was made: frames of the video, waveform and spectrogram over one time axis."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM, GAP = 1600, 76, 24, 40, 36, 14
PLOT_WIDTH = WIDTH - MARGIN_LEFT - MARGIN_RIGHT
WAVE_HEIGHT, SPECTRUM_HEIGHT, MAX_STRIP_HEIGHT = 180, 280, 200
FRAMES_IN_STRIP = 8

BACKGROUND, INK, FAINT, WAVE = (18, 18, 22), (222, 222, 228), (62, 62, 72), (96, 178, 240)
MARK, MARK_HEIGHT = (250, 204, 60), 9
HEAT = np.array([(0, 0, 4), (60, 15, 112), (146, 36, 118), (222, 73, 82), (253, 158, 100), (252, 253, 191)])

WINDOW = 2048  # samples of one spectrum
LOWEST_HZ = 50.0
FREQUENCY_LABELS = {100: "100 Hz", 1_000: "1 kHz", 10_000: "10 kHz"}
FLOOR_DB = -90.0  # of the spectrogram, below a full-scale sine

Images = Iterable[tuple[float, np.ndarray]]


def draw(
    path: Path, images: Images, waveform: np.ndarray, sample_rate: int, seconds: float, title: str,
    marks: Iterable[float] = (),
) -> None:
    """Writes the picture.

    Args:
        images: (time in seconds, uint8 [H, W, 3]) in order of time.
        waveform: [N], float, full scale at 1.
        seconds: length of the time axis.
        title: one line above.
        marks: times in seconds to point at, above the waveform.
    """
    strip = _strip(images, seconds)
    parts = [strip, _wave(waveform, sample_rate, seconds), _spectrogram(waveform, sample_rate, seconds)]
    height = MARGIN_TOP + sum(part.height for part in parts) + GAP * (len(parts) - 1) + MARGIN_BOTTOM
    canvas = Image.new("RGB", (WIDTH, height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN_LEFT, MARGIN_TOP // 2), title, fill=INK, font=font(18), anchor="lm")
    tops = []
    for part in parts:
        tops.append(tops[-1] + parts[len(tops) - 1].height + GAP if tops else MARGIN_TOP)
        canvas.paste(part, (MARGIN_LEFT, tops[-1]))
    for time in marks:
        x = MARGIN_LEFT + time / seconds * PLOT_WIDTH
        pen.polygon([(x - 5, tops[1] - MARK_HEIGHT - 2), (x + 5, tops[1] - MARK_HEIGHT - 2), (x, tops[1] - 2)], fill=MARK)
    _label_wave(pen, tops[1])
    _label_frequencies(pen, tops[2], sample_rate)
    _label_times(pen, tops[2] + SPECTRUM_HEIGHT, seconds)
    canvas.save(path)


def _strip(images: Images, seconds: float) -> Image.Image:
    """Frames side by side, each the first one at or after the start of the time it stands for."""
    slot = PLOT_WIDTH / FRAMES_IN_STRIP
    chosen: list[Image.Image] = []
    for time, image in images:
        if len(chosen) < FRAMES_IN_STRIP and time >= len(chosen) * seconds / FRAMES_IN_STRIP - 1e-6:
            chosen.append(_thumbnail(image, round(slot) - 2))
    strip = Image.new("RGB", (PLOT_WIDTH, max((image.height for image in chosen), default=1)), BACKGROUND)
    for index, image in enumerate(chosen):
        strip.paste(image, (round(index * slot), 0))
    return strip


def _thumbnail(image: np.ndarray, width: int) -> Image.Image:
    thumbnail = Image.fromarray(image)
    thumbnail.thumbnail((width, MAX_STRIP_HEIGHT))
    return thumbnail


def _wave(waveform: np.ndarray, sample_rate: int, seconds: float) -> Image.Image:
    """Lowest and highest sample of each pixel column, over lines at the labelled times."""
    plot = Image.new("RGB", (PLOT_WIDTH, WAVE_HEIGHT), (10, 10, 12))
    pen = ImageDraw.Draw(plot)
    middle = (WAVE_HEIGHT - 1) / 2
    pen.line([(0, middle), (PLOT_WIDTH, middle)], fill=FAINT)
    for time in _ticks(seconds):
        pen.line([(time / seconds * PLOT_WIDTH, 0), (time / seconds * PLOT_WIDTH, WAVE_HEIGHT)], fill=FAINT)
    edges = _columns(sample_rate, seconds)
    for x in range(PLOT_WIDTH):
        column = waveform[edges[x] : edges[x + 1]]
        if column.size:
            high, low = (middle * (1 - np.clip(level, -1, 1)) for level in (column.max(), column.min()))
            pen.line([(x, round(float(high))), (x, round(float(low)))], fill=WAVE)
    return plot


def _spectrogram(waveform: np.ndarray, sample_rate: int, seconds: float) -> Image.Image:
    """Power in dB on a logarithmic frequency axis, one spectrum per pixel column."""
    padded = np.pad(waveform, (WINDOW // 2, WINDOW))
    starts = np.minimum(_columns(sample_rate, seconds)[:-1], len(padded) - WINDOW)
    window = np.hanning(WINDOW)
    spectra = np.stack([np.abs(np.fft.rfft(padded[start : start + WINDOW] * window)) for start in starts])
    decibels = 20 * np.log10(spectra * 2 / window.sum() + 1e-9)
    rows = np.geomspace(sample_rate / 2, LOWEST_HZ, SPECTRUM_HEIGHT) / sample_rate * WINDOW
    levels = np.stack([np.interp(rows, np.arange(decibels.shape[1]), column) for column in decibels], axis=1)
    return Image.fromarray(_heat(np.clip(1 - levels / FLOOR_DB, 0, 1)))


def _heat(shares: np.ndarray) -> np.ndarray:
    """Shares of 0..1 as colours from black over red to pale yellow."""
    anchors = np.linspace(0, 1, len(HEAT))
    return np.stack([np.interp(shares, anchors, channel) for channel in HEAT.T], axis=-1).astype(np.uint8)


def _columns(sample_rate: int, seconds: float) -> np.ndarray:
    """The sample at which each pixel column starts, and where the last one ends."""
    return np.linspace(0, seconds * sample_rate, PLOT_WIDTH + 1).astype(int)


def _label_wave(pen: ImageDraw.ImageDraw, top: int) -> None:
    for share, text in ((0.0, "1"), (0.5, "0"), (1.0, "-1")):
        y = top + share * (WAVE_HEIGHT - 1)
        pen.text((MARGIN_LEFT - 8, y), text, fill=INK, font=font(14), anchor="rm")


def _label_frequencies(pen: ImageDraw.ImageDraw, top: int, sample_rate: int) -> None:
    octaves = np.log(sample_rate / 2 / LOWEST_HZ)
    for frequency, text in FREQUENCY_LABELS.items():
        y = top + np.log(sample_rate / 2 / frequency) / octaves * (SPECTRUM_HEIGHT - 1)
        pen.text((MARGIN_LEFT - 8, y), text, fill=INK, font=font(14), anchor="rm")
        pen.line([(MARGIN_LEFT - 6, y), (MARGIN_LEFT - 1, y)], fill=INK)


def _label_times(pen: ImageDraw.ImageDraw, top: int, seconds: float) -> None:
    for time in _ticks(seconds):
        x = MARGIN_LEFT + time / seconds * PLOT_WIDTH
        pen.line([(x, top), (x, top + 5)], fill=INK)
        pen.text((x, top + 8), f"{time:g} s", fill=INK, font=font(14), anchor="ma")


def _ticks(seconds: float) -> list[float]:
    """Round times to label, at most 17 of them."""
    interval = next((step for step in (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60) if seconds / step <= 16), 300)
    return [count * interval for count in range(int(seconds / interval + 1e-6) + 1)]


def font(size: int):
    return ImageFont.load_default(size=size)
