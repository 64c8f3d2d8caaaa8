"""A loudness and true-peak meter after ITU-R BS.1770-4, with its published coefficients, to judge what FFmpeg did."""

import math

import numpy as np

RATE = 48_000  # the coefficients are for this rate
# Annex 1, tables 1 and 2: (b0, b1, b2), (a1, a2).
_HEAD = (1.53512485958697, -2.69169618940638, 1.19839281085285), (-1.69065929318241, 0.73248077421585)
_HIGH_PASS = (1.0, -2.0, 1.0), (-1.99004745483398, 0.99007225036621)
_BLOCK, _HOP = RATE * 4 // 10, RATE // 10
_OVERSAMPLING = 8


def loudness(waveform) -> float:
    """Integrated loudness in LUFS of [1 or 2, N] at 48 kHz, N at least 0.4 s; -inf for silence."""
    weighted = [_biquad(_biquad(np.asarray(row, np.float64), *_HEAD), *_HIGH_PASS) for row in waveform]
    starts = range(0, len(weighted[0]) - _BLOCK + 1, _HOP)
    powers = np.array([sum(np.mean(row[at : at + _BLOCK] ** 2) for row in weighted) for at in starts])
    powers = powers[_lufs(powers) > -70]
    if not len(powers):
        return -math.inf
    powers = powers[_lufs(powers) > _lufs(powers.mean()) - 10]
    return float(_lufs(powers.mean()))


def true_peak(waveform) -> float:
    """dBTP of [channels, N]: the highest of eight times as many samples, by band-limited interpolation."""
    rows = np.pad(np.asarray(waveform, np.float64), ((0, 0), (256, 256)))
    spectrum = np.fft.rfft(rows, axis=1)
    fine = np.fft.irfft(spectrum, rows.shape[1] * _OVERSAMPLING, axis=1) * _OVERSAMPLING
    return 20 * math.log10(np.abs(fine).max())


def _lufs(power):
    return -0.691 + 10 * np.log10(np.maximum(power, 1e-12))


def _biquad(signal: np.ndarray, b: tuple[float, ...], a: tuple[float, ...]) -> np.ndarray:
    """The filter by its impulse response, long enough for the slower pole to have died away."""
    response, state = np.zeros(1 << 15), [0.0, 0.0]
    for n in range(len(response)):
        value = b[n] if n < 3 else 0.0
        response[n] = value - a[0] * state[0] - a[1] * state[1]
        state = [response[n], state[0]]
    total = 1 << (len(signal) + len(response)).bit_length()
    return np.fft.irfft(np.fft.rfft(signal, total) * np.fft.rfft(response, total), total)[: len(signal)]
