"""What a small DAC-VAE's latents should say: a short-time spectrum, in levels.

An encoder that learns from reconstruction alone puts into its latents whatever its decoder can use, and a small one leaves
out what is faint: that of the shipped one says nothing of the band above 8 kHz (weights/README.md). Here that band, and when
within a frame a sound begins, are told whatever else is learned. Whether a transformer does better on them is not known yet.
"""

import math

import torch
from einops import rearrange
from torch import Tensor

from ..timing import LATENT_HOP, SAMPLE_RATE
from .errors import TrainingError
from .spectra import centred_magnitudes, triangles

# Bands of a window around the frame tell the pitch; a few wide ones in each quarter of the frame, 5 ms, tell the moment.
FRAME_WINDOW, QUARTER_WINDOW, QUARTERS = 2048, 512, 4
# Amplitudes that count as nothing: a little below what the small world's rooms hum with, in a narrow and in a wide band.
FRAME_FLOOR, QUARTER_FLOOR = 3e-4, 1e-3
LEAST_CHANNELS = 10
# Of log10 amplitudes over the floor: over the small world's sounds latents have about mean 0 and variance 1 then.
CENTRE, SCALE = 0.35, 3.0


def spectral_name(channels: int) -> str:
    """What a cache of them says its latents are."""
    return f"spectral-{channels}"


class SpectralLatents:
    """Waveforms to the latents [B,C,L] that stand for them: of 64 channels, 40 bands of the frame and 6 in each quarter.

    The scale is fixed, so that they mean the same in every run.

    Attributes:
        name: says what they are, for the identity of a cache.

    Raises:
        TrainingError: fewer channels than there are quarters and bands to fill.
    """

    def __init__(self, channels: int):
        if channels < LEAST_CHANNELS:
            raise TrainingError(
                f"model.latent_channels is {channels}.", f"Spectral latents need {LEAST_CHANNELS} or more.", "Raise it."
            )
        self.name = spectral_name(channels)
        wide = channels // 10
        self.frame = _Levels(channels - QUARTERS * wide, FRAME_WINDOW, LATENT_HOP, FRAME_FLOOR)
        self.quarter = _Levels(wide, QUARTER_WINDOW, LATENT_HOP // QUARTERS, QUARTER_FLOOR)

    @torch.no_grad()
    def __call__(self, waveform: Tensor) -> Tensor:
        """[B,1,N] at 48 kHz to [B,C,N / 960]."""
        quarters = rearrange(self.quarter(waveform), "B (L Q) M -> B L (Q M)", Q=QUARTERS)
        levels = torch.cat((self.frame(waveform), quarters), dim=-1)
        return rearrange(SCALE * (levels - CENTRE), "B L C -> B C L")


class _Levels:
    """log10 of amplitude over a floor, in mel bands of windows centred on hops, 0 for silence."""

    def __init__(self, bands: int, window: int, hop: int, floor: float):
        self.window, self.hop, self.floor = window, hop, floor
        # At least a bin wide, so that no low band falls between bins.
        self.filters = triangles(bands, window, SAMPLE_RATE, 0, SAMPLE_RATE / 2, SAMPLE_RATE / window)

    def __call__(self, waveform: Tensor) -> Tensor:
        """[B,1,N] to [B,N / hop,M]."""
        power = centred_magnitudes(waveform.float(), self.window, self.hop).square()
        return (power @ self.filters.T.to(power)).sqrt().add(self.floor).log10() - math.log10(self.floor)
