"""The parts of the timeline that are pictures themselves, float32 [height, width, 3] each."""

from collections.abc import Sequence

import numpy as np

from . import paint
from .watch import STRIP_HEIGHT, Watched

WAVE_HEIGHT, MOTION_HEIGHT, SPECTRUM_HEIGHT = 148, 64, 232
_WINDOW = 2048  # samples of one spectrum
_SPECTRA = 6  # at most, averaged in one column
LOWEST_HZ, HIGHEST_HZ = 60.0, 20_000.0
_RANGE_DB = 72.0  # from the loudest of the clip down
_QUIETEST_DB = -60.0  # of a full-scale sine; what is loudest counts as this at least, so that silence stays dark
_FAINTEST = 1e-3  # peak that fills the panel at least: silence stays a line
_STILL = 0.004  # mean difference of frames that counts as full motion at least: a still camera's noise stays low


def strip(watched: Watched, seconds: float, width: int) -> np.ndarray:
    """Small pictures side by side over the whole width, each of the middle of the time that it covers."""
    panel = paint.filled(paint.PANEL, STRIP_HEIGHT, width)
    count = max(1, round(width / watched.pictures[0][1].shape[1]))
    edges = np.linspace(0, width, count + 1).round().astype(int)
    times = np.array([time for time, _ in watched.pictures])
    for left, right in zip(edges[:-1], edges[1:], strict=True):
        picture = watched.pictures[np.abs(times - (left + right) / 2 / width * seconds).argmin()][1]
        room = right - left - (2 if right < width else 0)
        skip = max(picture.shape[1] - room, 0) // 2
        piece = picture[:, skip : skip + room]
        start = left + (room - piece.shape[1]) // 2
        panel[:, start : start + piece.shape[1]] = piece
    return panel


def motion(watched: Watched, seconds: float, width: int) -> np.ndarray:
    """How much each frame differs from the one before; the strongest (but for the last 1 %, such as cuts) fills it."""
    panel = paint.filled(paint.PANEL, MOTION_HEIGHT, width)
    if watched.times:
        values = np.array(watched.motion)
        values = np.clip(values / max(np.percentile(values, 99), _STILL), 0, 1)
        at = (np.arange(width) + 0.5) / width * seconds
        shares = _strongest(np.array(watched.times), values, at, seconds / width)
        tops = 3 + (MOTION_HEIGHT - 3) * (1 - shares)
        paint.lay(panel, paint.between(tops, np.full(width, MOTION_HEIGHT), MOTION_HEIGHT), paint.MOTION, 0.42)
        paint.lay(panel, paint.between(tops - 1.6, tops, MOTION_HEIGHT), paint.MOTION)
    return panel


def _strongest(times: np.ndarray, values: np.ndarray, at: np.ndarray, step: float) -> np.ndarray:
    """Values at the columns: between two frames on the line through them, of many in a column the greatest."""
    shares = np.interp(at, times, values, left=values[0], right=values[-1])
    columns = np.clip((times / step).astype(int), 0, len(at) - 1)
    np.maximum.at(shares, columns, values)
    return shares


def wave(waveform: np.ndarray, sample_rate: int, seconds: float, width: int) -> np.ndarray:
    """Lowest to highest sample of each column, the clip's peak filling it, and their root mean square brighter inside."""
    panel = paint.filled(paint.PANEL, WAVE_HEIGHT, width)
    middle = WAVE_HEIGHT / 2
    panel[WAVE_HEIGHT // 2] = paint.GRID
    low, high, rms = _columns(waveform, sample_rate, seconds, width)
    reach = (middle - 3) / max(np.abs(low).max(initial=0), np.abs(high).max(initial=0), _FAINTEST)
    tops, bottoms = middle - high * reach, middle - low * reach
    heard = (high - low) > 0
    tops, bottoms = np.where(heard, np.minimum(tops, bottoms - 1.2), 0), np.where(heard, bottoms, 0)
    paint.lay(panel, paint.between(tops, bottoms, WAVE_HEIGHT), paint.WAVE)
    core = rms * reach
    paint.lay(panel, paint.between(middle - core, middle + core, WAVE_HEIGHT), paint.WAVE_CORE, 0.7)
    return panel


def _columns(waveform: np.ndarray, sample_rate: int, seconds: float, width: int) -> np.ndarray:
    """[3, width]: lowest, highest and root mean square in each column, 0 after the end of the sound."""
    edges = np.linspace(0, seconds * sample_rate, width + 1).astype(int)
    found = np.zeros((3, width))
    for x, (begin, end) in enumerate(zip(edges[:-1], np.maximum(edges[1:], edges[:-1] + 1), strict=True)):
        column = waveform[begin:end]
        if column.size:
            found[:, x] = column.min(), column.max(), np.sqrt(np.mean(np.square(column)))
    return found


def spectrogram(waveform: np.ndarray, sample_rate: int, seconds: float, width: int) -> np.ndarray:
    """Power in dB, the frequencies on a logarithmic axis; of a wide column the mean of several spectra."""
    padded = np.pad(waveform.astype(np.float32), (_WINDOW // 2, _WINDOW))
    column = seconds * sample_rate / width
    places = max(1, min(_SPECTRA, round(column / (_WINDOW / 2))))
    window = np.hanning(_WINDOW).astype(np.float32)
    rows = _frequencies() / sample_rate * _WINDOW
    shares = np.zeros((SPECTRUM_HEIGHT, width))
    for x in range(width):
        starts = ((x + (np.arange(places) + 0.5) / places) * column).astype(int)
        power = np.mean([_power(padded[start : start + _WINDOW], window) for start in starts], axis=0)
        shares[:, x] = np.interp(rows, np.arange(len(power)), 10 * np.log10(power + 1e-14))
    loudest = max(shares.max(initial=-np.inf), _QUIETEST_DB)
    return paint.heat(np.clip((shares - loudest) / _RANGE_DB + 1, 0, 1))


def _power(piece: np.ndarray, window: np.ndarray) -> np.ndarray:
    piece = np.pad(piece, (0, len(window) - len(piece)))  # past the end of the sound it is silent
    return np.abs(np.fft.rfft(piece * window) * 2 / window.sum()) ** 2


def _frequencies() -> np.ndarray:
    """Hz of each row, the highest above."""
    return np.geomspace(HIGHEST_HZ, LOWEST_HZ, SPECTRUM_HEIGHT)


def frequency_row(frequency: float) -> float:
    """How far down in the spectrogram a frequency stands, in pixels."""
    return np.log(HIGHEST_HZ / frequency) / np.log(HIGHEST_HZ / LOWEST_HZ) * (SPECTRUM_HEIGHT - 1)


def dim_lines(panel: np.ndarray, columns: Sequence[float], colour: paint.Colour, opacity: float) -> None:
    """Thin lines from top to bottom."""
    for x in columns:
        left, share = int(x), x - int(x)
        for place, strength in ((left, 1 - share), (left + 1, share)):
            if 0 <= place < panel.shape[1]:
                panel[:, place] += (np.float32(colour) - panel[:, place]) * (opacity * strength)
