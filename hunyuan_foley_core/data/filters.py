"""Filters for whole clips, and bands to look at them."""

import numpy as np

from ..timing import SAMPLE_RATE

_LOWEST, _HIGHEST = 60.0, 18_000.0  # Hz


def convolve(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Causal convolution of [N] with [M], cut to [N]."""
    total = 1 << (len(signal) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(signal, total) * np.fft.rfft(response, total)
    return np.fft.irfft(spectrum, total)[: len(signal)]


def shaped(signal: np.ndarray, gain) -> np.ndarray:
    """[N] with `gain(frequencies in Hz)` applied to its spectrum, without delay."""
    spectrum = np.fft.rfft(signal)
    return np.fft.irfft(spectrum * gain(np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE)), len(signal))


def low_pass(signal: np.ndarray, begin: float, end: float) -> np.ndarray:
    """[N] with nothing left above `end` Hz and all kept below `begin`."""
    def gain(frequencies):
        return 0.5 + 0.5 * np.cos(np.pi * np.clip((frequencies - begin) / (end - begin), 0, 1))

    return shaped(signal, gain)


def band_amplitudes(spectrum: np.ndarray, bands: int) -> np.ndarray:
    """Roots of the power in bands of equal ratio: [..., bins] from 0 Hz to half the rate, to [..., up to `bands`]."""
    window = 2 * (spectrum.shape[-1] - 1)
    edges = np.geomspace(_LOWEST, _HIGHEST, bands + 1) * window / SAMPLE_RATE
    starts = np.unique(np.round(edges).astype(int))
    return np.sqrt(np.add.reduceat(spectrum[..., : starts[-1]] ** 2, starts[:-1], axis=-1))
