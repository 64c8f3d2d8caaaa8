"""Filters for whole clips."""

import numpy as np

from ..timing import SAMPLE_RATE


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
