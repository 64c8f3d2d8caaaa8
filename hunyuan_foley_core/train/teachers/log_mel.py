"""A teacher without parameters: the log-mel spectrum, one frame per latent frame.

It knows less than a trained one but is always there, and what it tells (when, how loud, which bands) is what a small
model of impacts has to learn first.
"""

import torch
from torch import Tensor

from ...timing import LATENT_HOP, SAMPLE_RATE
from ..spectra import FLOOR, centred_magnitudes, triangles

BANDS, WINDOW = 64, 2048
# Log-mel vectors all point the same way, deep into the negative (cosine 0.95 and more between any two), so the loss would
# be satisfied by a constant. What counts as zero is the middle between the floor and a loud sound's -20 dB in a band:
# silence points one way, a loud frame the other, and decays pass in between. One constant for all bands and clips, not a
# clip's own mean, so that a frame's features depend on that frame alone and a silent clip still has a direction.
CENTRE, HALF_RANGE = -3.0, 2.0  # log10 of amplitude


class LogMelTeacher:
    """64 mel bands up to 24 kHz, 50 frames a second, each centred on its latent frame."""

    size = BANDS

    def __init__(self, device: str = "cpu"):
        self.name = f"log_mel-{BANDS}x{WINDOW}"
        # At least a bin wide, so that no low band falls between bins.
        self.filters = triangles(BANDS, WINDOW, SAMPLE_RATE, 0, SAMPLE_RATE / 2, SAMPLE_RATE / WINDOW).to(device)

    @torch.no_grad()
    def features(self, waveform: Tensor) -> Tensor:
        """[B,1,N] at 48 kHz to [B,F,64] within about -1..1; F = N / 960, rounded down."""
        frames = waveform.shape[-1] // LATENT_HOP
        magnitudes = centred_magnitudes(waveform[..., : frames * LATENT_HOP].to(self.filters), WINDOW, LATENT_HOP)
        levels = (magnitudes @ self.filters.T).clamp(min=FLOOR).log10()
        return ((levels - CENTRE) / HALF_RANGE).cpu()
