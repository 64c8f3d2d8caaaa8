"""How high a recording reaches, measured: what decides whether its caption carries the bandwidth tag."""

import torch
from torch import Tensor

from ..timing import SAMPLE_RATE

WIDE_BAND = 16_000.0  # Hz: captions of clips that reach above carry the tag (arXiv 2508.16930)
_WINDOW, _HOP = 2048, 1024  # samples
_RANGE_DB = 60.0  # below the strongest frequency nothing counts
_PADDING = 1e-5  # amplitude (-100 dB of full scale) that padding does not go beyond


def bandwidth(waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """The highest frequency in Hz within 60 dB of the strongest, in the mean power spectrum of all frames with sound.

    Padding, at either end or frames of it in between, does not count; neither does a constant offset.

    Args:
        waveform: [..., N], any level.

    Returns:
        0 for a waveform that is silent throughout.
    """
    samples = _without_padding(waveform.detach().float().reshape(-1))
    window = min(_WINDOW, len(samples))
    if window < 2:
        return 0.0
    frames = samples.unfold(0, window, _HOP)
    frames = frames[frames.abs().amax(dim=1) > _PADDING]
    windowed = (frames - frames.mean()) * torch.hann_window(window, device=frames.device)
    power = torch.fft.rfft(windowed).abs().square().mean(dim=0)
    reached = power >= power.max() * 10 ** (-_RANGE_DB / 10)
    return float(reached.nonzero().max()) * sample_rate / window if power.any() else 0.0


def _without_padding(samples: Tensor) -> Tensor:
    """Cut at both ends, because the edge of padding within a frame would look like a click."""
    heard = (samples.abs() > _PADDING).nonzero()
    return samples[int(heard[0]) : int(heard[-1]) + 1] if len(heard) else samples[:0]
