"""Spectra of waveforms [B,1,N]: the ground that losses, discriminators and metrics share."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..timing import SAMPLE_RATE

HOPS_PER_WINDOW = 4
# Below this amplitude two sounds count as equal: -100 dB of a full-scale sine, about the noise of 16-bit samples.
FLOOR = 1e-5


def spectrum(waveform: Tensor, window: int) -> Tensor:
    """Complex spectra [B,F,T] of [B,1,N], Hann windows of `window` samples a quarter apart; a sine keeps its size."""
    hann = torch.hann_window(window, dtype=waveform.dtype, device=waveform.device)
    frames = torch.stft(
        rearrange(waveform, "B 1 N -> B N"), window, window // HOPS_PER_WINDOW, window=hann, center=True,
        pad_mode="constant", return_complex=True,
    )
    return frames * (2 / hann.sum())


def centred_magnitudes(waveform: Tensor, window: int, hop: int) -> Tensor:
    """Magnitudes [B,T,F] of [B,1,N]: Hann windows whose middles are those of the N / hop hops; a sine keeps its size."""
    hann, margin = torch.hann_window(window, dtype=waveform.dtype, device=waveform.device), (window - hop) // 2
    frames = F.pad(rearrange(waveform, "B 1 N -> B N"), (margin, margin)).unfold(-1, window, hop)
    return torch.fft.rfft(frames * hann).abs() * (2 / hann.sum())


def mel_bands(window: int) -> int:
    """Mel bands that a window of so many samples resolves: 5, 10, 20, ... 320 for 32, 64, 128, ... 2048."""
    return window * 5 // 32


def log_mel(magnitudes: Tensor, floor: float = FLOOR) -> Tensor:
    """log10 of the mel bands [B,M,T] of spectral magnitudes [B,F,T], not below log10 of `floor`."""
    window = 2 * (magnitudes.shape[1] - 1)
    return torch.log10((mel_filters(window).to(magnitudes) @ magnitudes).clamp(min=floor))


@lru_cache(maxsize=None)
@torch.inference_mode(False)  # or filters that a preview happened to make first could never be trained through
def mel_filters(window: int, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """The bands [M,F] that a window resolves, from 0 Hz to half the sample rate.

    At least half a bin wide, so that low bands narrower than the spacing of the bins do not fall between them.
    """
    return triangles(mel_bands(window), window, sample_rate, 0, sample_rate / 2, sample_rate / window)


def triangles(
    bands: int, window: int, sample_rate: int, lowest: float, highest: float, narrowest: float = 0.0
) -> Tensor:
    """Triangles [bands,F] of height 1 over the bins of a spectrum, evenly spaced on O'Shaughnessy's mel scale.

    Args:
        lowest, highest: in Hz, where the first begins and the last ends.
        narrowest: in Hz, the least that a triangle's sides stretch.
    """
    frequencies = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (lowest, highest))
    edges = 700 * (10 ** (torch.linspace(low, high, bands + 2, dtype=torch.float64) / 2595) - 1)
    left, centre, right = (edges[i : i + bands, None] for i in range(3))
    rising = (frequencies - centre) / (centre - left).clamp(min=narrowest) + 1
    falling = (centre - frequencies) / (right - centre).clamp(min=narrowest) + 1
    return torch.minimum(rising, falling).clamp(min=0).float()
