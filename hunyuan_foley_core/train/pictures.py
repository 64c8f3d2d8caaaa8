"""Pictures to judge a run by: spectrograms, one below the other."""

from fractions import Fraction
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .spectra import log_mel, spectrum

WINDOW, BANDS, WIDTH = 2048, 160, 800
LOWEST, HIGHEST = -4.5, -0.5  # log10 amplitudes drawn black and white
GAP = 4


def write_spectrograms(path: Path, waveforms: list[Tensor]) -> None:
    """Log-mel spectrograms of waveforms [1,N] at 48 kHz as one PNG, low notes below."""
    rows = [F.pad(_spectrogram(waveform), (0, 0, 0, GAP), value=1.0) for waveform in waveforms]
    grey = (torch.cat(rows) * 255).round().byte()
    frame = av.VideoFrame.from_ndarray(grey.numpy(), format="gray")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = frame.width, frame.height, "gray", Fraction(1)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def _spectrogram(waveform: Tensor) -> Tensor:
    """[BANDS, WIDTH] in 0..1."""
    levels = log_mel(spectrum(rearrange(waveform, "one N -> one 1 N"), WINDOW).abs()).flip(1)
    grey = ((levels - LOWEST) / (HIGHEST - LOWEST)).clamp(0, 1)
    return F.interpolate(grey[None], (BANDS, WIDTH), mode="bilinear", align_corners=False)[0, 0]
