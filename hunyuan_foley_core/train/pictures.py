"""Pictures to judge a run by: spectrograms and latents, one below the other."""

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
    write_maps(path, [_spectrogram(waveform) for waveform in waveforms])


def write_latents(path: Path, latents: list[Tensor]) -> None:
    """Latents [C,L] as one PNG, the first channel below; -2 is black and 2 is white."""
    write_maps(path, [_scaled((values.flip(0) + 2) / 4) for values in latents])


def write_maps(path: Path, rows: list[Tensor]) -> None:
    """Grey pictures [H,WIDTH] in 0..1 as one PNG."""
    grey = (torch.cat([F.pad(row, (0, 0, 0, GAP), value=1.0) for row in rows]) * 255).round().byte()
    frame = av.VideoFrame.from_ndarray(grey.numpy(), format="gray")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = frame.width, frame.height, "gray", Fraction(1)
    path.write_bytes(b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)]))


def _spectrogram(waveform: Tensor) -> Tensor:
    levels = log_mel(spectrum(rearrange(waveform, "one N -> one 1 N"), WINDOW).abs()).flip(1)
    return _scaled((levels[0] - LOWEST) / (HIGHEST - LOWEST))


def _scaled(grey: Tensor) -> Tensor:
    """[H,W] to [BANDS, WIDTH] within 0..1."""
    return F.interpolate(grey[None, None].clamp(0, 1), (BANDS, WIDTH), mode="bilinear", align_corners=False)[0, 0]
