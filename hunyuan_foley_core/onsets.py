"""When something hits: onsets of a waveform."""

import numpy as np

from .timing import SAMPLE_RATE

_WINDOW, _HOP = 1024, 240  # samples: 21 ms and 5 ms
_BANDS = 40
_FLOOR = 2e-3  # amplitude at which a band begins to count; the noise of the room stays below
_LAG = 3  # hops over which loudness must rise
_REACH = 8  # hops to either side within which an onset is the strongest
_AROUND = 24  # the same for the middle it must stand out from
_RISE = 0.14  # by how much (mean over the bands, in nepers): few false and few missed in true sounds, at half level too
_EDGE = 4  # hops at either end, which the windows reach over, that hold no onset
_DELAY = 0.0014  # seconds by which the strongest rise comes after the onset, measured
_PIECE = 4096  # windows looked at at once: 20 s
_LOWEST, _HIGHEST = 60.0, 18_000.0  # Hz


def onsets(waveform: np.ndarray) -> np.ndarray:
    """Seconds at which something hits in a float waveform [N] at 48 kHz: peaks of the spectral flux.

    A sound shorter than a window (21 ms) has none.
    """
    waveform = np.asarray(waveform, dtype=np.float32)
    if len(waveform) < _WINDOW:
        return np.zeros(0)
    rise = _flux(waveform)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(rise, _REACH), 2 * _REACH + 1)
    wide = np.lib.stride_tricks.sliding_window_view(np.pad(rise, _AROUND, mode="reflect"), 2 * _AROUND + 1)
    peaks = np.flatnonzero((rise >= near.max(axis=1)) & (rise > np.median(wide, axis=1) + _RISE))
    # The top of the parabola through a peak and its neighbours: to half a millisecond, where a hop is five.
    before, top, after = rise[peaks - 1], rise[peaks], rise[peaks + 1]
    shift = 0.5 * (after - before) / np.maximum(2 * top - before - after, 1e-9)
    return (peaks + shift) * _HOP / SAMPLE_RATE - _DELAY


def band_amplitudes(spectrum: np.ndarray, bands: int) -> np.ndarray:
    """Roots of the power in bands of equal ratio: [..., bins] from 0 Hz to half the rate, to [..., up to `bands`]."""
    window = 2 * (spectrum.shape[-1] - 1)
    edges = np.geomspace(_LOWEST, _HIGHEST, bands + 1) * window / SAMPLE_RATE
    starts = np.unique(np.round(edges).astype(int))
    return np.sqrt(np.add.reduceat(spectrum[..., : starts[-1]] ** 2, starts[:-1], axis=-1))


def _flux(waveform: np.ndarray) -> np.ndarray:
    """Mean rise of the bands' log amplitudes [frames]; frame k is centred on sample k * _HOP."""
    padded = np.pad(waveform, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    loudness = np.concatenate([_loudness(frames[at : at + _PIECE]) for at in range(0, len(frames), _PIECE)])
    before = np.pad(loudness, ((_LAG, 0), (0, 0)), mode="edge")[:-_LAG]
    rise = np.maximum(loudness - before, 0).mean(axis=1)
    rise[:_EDGE] = rise[-_EDGE:] = 0
    return rise


def _loudness(frames: np.ndarray) -> np.ndarray:
    """Log amplitudes [frames, bands] of [frames, _WINDOW] samples."""
    window = np.hanning(_WINDOW).astype(np.float32)
    spectrum = np.abs(np.fft.rfft(frames * window, axis=1)) / window.sum()
    return np.log1p(band_amplitudes(spectrum, _BANDS) / _FLOOR)
