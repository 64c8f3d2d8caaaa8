"""How high a recording reaches, measured: what decides whether its caption carries the bandwidth tag."""

import torch
from torch import Tensor

from ..timing import SAMPLE_RATE

WIDE_BAND = 16_000.0  # Hz: captions of clips that reach above carry the tag (arXiv 2508.16930)
_WINDOW, _HOP = 2048, 1024  # samples
_RANGE_DB = 60.0  # below the strongest frequency nothing counts
_PADDING = 1e-5  # amplitude (-100 dB of full scale) a frame of more than padding goes beyond


def bandwidth(waveform: Tensor, sample_rate: int = SAMPLE_RATE) -> float:
    """The highest frequency in Hz within 60 dB of the strongest, in the mean power spectrum of all frames with sound.

    Frames of padding, which are silent, do not count; neither does a constant offset.

    Args:
        waveform: [..., N], any level.

    Returns:
        0 for a waveform that is silent throughout.
    """
    samples = waveform.detach().float().reshape(-1)
    samples = torch.nn.functional.pad(samples, (0, max(0, _WINDOW - len(samples))))
    frames = samples.unfold(0, _WINDOW, _HOP)
    frames = frames[frames.abs().amax(dim=1) > _PADDING]
    if not len(frames):
        return 0.0
    windowed = (frames - frames.mean()) * torch.hann_window(_WINDOW, device=frames.device)
    power = torch.fft.rfft(windowed).abs().square().mean(dim=0)
    reached = power > power.max() * 10 ** (-_RANGE_DB / 10)
    return float(reached.nonzero().max()) * sample_rate / _WINDOW
