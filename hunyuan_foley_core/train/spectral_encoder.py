"""Training a DAC-VAE's encoder alone, towards latents that tell the spectrum."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from . import metrics
from .dac_vae import PREVIEWS, CodecConfig, exported, starting_vae, trainable
from .loop import Batch, Phase, PhaseLoss
from .losses import LOGVAR_RANGE
from .pictures import write_latents
from .spectral_latents import SpectralLatents


class SpectralEncoderObjective:
    """The encoder's side of `loop.Objective`; batches have "waveform" [B,1,N], N a multiple of the hop.

    The posterior's mean goes to the spectral latents. Its variance goes to what the mean still misses, so that a draw from
    the posterior, which the decoder is given later, is as far off as an encoded sound is.
    """

    averaged = "codec"

    def __init__(self, config: CodecConfig):
        self.vae, self.device = starting_vae(config), config.device
        self.target = SpectralLatents(config.model.latent_channels)
        for module in (self.vae.decoder, self.vae.post_quant_conv):
            module.requires_grad_(False)
        self.posterior = torch.compile(self.vae.posterior) if config.compile else self.vae.posterior
        self.phases = [Phase("codec", trainable(self.vae), config.optimiser)]

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[PhaseLoss]:
        mean, logvar, target = self._read(batch)
        missed = (target - mean).square()
        logvar = logvar.clamp(*LOGVAR_RANGE)
        # The likelihood of what is missed teaches the variance alone: it would let the mean give up where it is unsure.
        parts = {"missed": missed.mean(), "variance": 0.5 * (missed.detach() / logvar.exp() + logvar).mean()}
        yield "codec", sum(parts.values()), parts

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """`told`: the share of the spectral latents' variance that the mean tells; and how the posterior spreads."""
        mean, logvar, target = self._read(batch)
        variance = (target - target.mean((0, 2), keepdim=True)).square().mean()
        told = 1 - (target - mean).square().mean() / variance.clamp(min=1e-6)
        return {"told": told.item(), **metrics.latent_statistics(mean, logvar)}

    def preview(self, batch: Batch, generator: torch.Generator, folder: Path) -> None:
        """For the first sounds of the batch the latents wanted and, below them, those made."""
        mean, _, target = self._read({"waveform": batch["waveform"][:PREVIEWS]})
        write_latents(folder / "latents.png", [latents.cpu() for pair in zip(target, mean) for latents in pair])

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return exported(self.vae)

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        waveform = batch["waveform"].to(self.device)
        return *self.posterior(waveform), self.target(waveform)
