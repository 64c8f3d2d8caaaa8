"""The DAC-VAE: 48 kHz waveforms to latents and back."""

from .dac import DACVAE
from .weight_norm import fold_weight_norm

__all__ = ["DACVAE", "fold_weight_norm"]
