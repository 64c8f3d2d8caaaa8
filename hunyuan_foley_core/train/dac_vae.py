"""Training the DAC-VAE: reconstruction and KL, and after a while two judges to please; or one half of it at a time."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from .. import media
from ..checkpoint import load_vae
from ..config import DACVAEConfig
from ..timing import LATENT_HOP, SAMPLE_RATE
from ..vae.dac import DACVAE, ResidualUnit
from . import losses, metrics
from .config import LoopConfig, OptimiserConfig, one_of
from .discriminators import Discriminators
from .errors import TrainingError
from .initialisation import INITIALISATION_STREAM, starting_network
from .loop import Batch, Phase, PhaseLoss, seeded
from .sounds import SoundConfig
from .spectral_latents import SpectralLatents

PREVIEWS = 4
PARTS = ("all", "encoder", "decoder")
# Without these the many residual branches add up until the final tanh sits at +-1 and has no gradient.
BRANCH_SCALE, OUTPUT_SCALE = 0.1, 0.02
# Sound at this level has activations and latents near 1 at the start. Far below 1 Snake is the identity, and a linear
# encoder cannot tell how loud a noise is. The posterior's own noise starts small beside its mean.
TYPICAL_LEVEL, INITIAL_LOGVAR = 0.05, -4.0
# Noise on spectral latents that a decoder learns from, so that it forgives what a transformer gets wrong.
SPECTRAL_NOISE = 0.3


@dataclass(frozen=True)
class LossConfig:
    """Weights of the reconstruction losses (see `losses`).

    Attributes:
        windows: of the spectra, in samples.
        floor: amplitude below which the mel bands of two sounds count as equal. Noise that nobody can foretell should
            lie below it: its random ups and downs weigh as much in a logarithm as a loud tone does.
    """

    mel: float
    magnitude: float
    waveform: float
    peaks: float
    kl: float
    windows: tuple[int, ...]
    floor: float


@dataclass(frozen=True)
class AdversaryConfig:
    """The discriminators and what they weigh in the codec's loss.

    Attributes:
        start: first update with them; none come in where it lies beyond the last update.
        width: channels of their first layers; 32 is the published size.
    """

    start: int
    width: int
    adversarial: float
    features: float
    optimiser: OptimiserConfig


@dataclass(frozen=True)
class CodecConfig:
    """A whole DAC-VAE run.

    Attributes:
        start: file of weights to start from; empty: random ones.
        part: what is trained. "all": both halves for reconstruction, as published. "encoder": the encoder alone, towards
            latents that tell the spectrum (`spectral_latents`). "decoder": the decoder alone, so that latents made before
            stay valid.
        spectral_share: share of each batch of a decoder's training that is decoded from the spectral latents themselves
            instead of the encoder's: what a transformer taught with `prepare --latents spectral` will hand it.
        compile: fuse the network's arithmetic with torch.compile, which needs a C++ compiler on the CPU: about a minute at
            the start, then 1.7 times the speed (AMD EPYC, one core).
    """

    task: str
    out: str
    device: str
    start: str
    part: str
    spectral_share: float
    compile: bool
    model: DACVAEConfig
    data: SoundConfig
    losses: LossConfig
    optimiser: OptimiserConfig
    adversary: AdversaryConfig
    loop: LoopConfig

    def __post_init__(self):
        one_of("part", self.part, PARTS)
        if not 0 <= self.spectral_share < 1 or (self.spectral_share and self.part != "decoder"):
            raise TrainingError(
                f"spectral_share is {self.spectral_share} with part={self.part}.",
                "Expected 0, or with part=decoder a share below 1.", "Change it.",
            )
        rates = (self.model.encoder_rates, self.model.decoder_rates)
        if {math.prod(side) for side in rates} != {LATENT_HOP}:
            raise TrainingError(
                f"model.encoder_rates and model.decoder_rates are {list(rates[0])} and {list(rates[1])}.",
                f"Each list multiplied must give {LATENT_HOP} samples a latent frame.", "Change them.",
            )
        if self.model.decoder_dim % 2 ** len(rates[1]):
            raise TrainingError(
                f"model.decoder_dim is {self.model.decoder_dim}.", "It is halved once for each of the decoder's rates.",
                f"Use a multiple of {2 ** len(rates[1])}.",
            )
        if any(window < 32 or window % 32 for window in self.losses.windows) or not self.losses.windows:
            raise TrainingError(
                f"losses.windows is {list(self.losses.windows)}.", "Expected multiples of 32.", "Try [128, 512, 2048]."
            )


def initialise(vae: DACVAE, generator: torch.Generator) -> None:
    """Fills a DAC-VAE with random weights that keep variances level, residual branches and output near zero."""
    for module in vae.modules():
        if isinstance(module, (nn.Conv1d, nn.ConvTranspose1d)):
            # Each output of a transposed convolution sees kernel / stride taps of every input channel.
            taps = module.in_channels * module.kernel_size[0]
            fan_in = taps // module.stride[0] if isinstance(module, nn.ConvTranspose1d) else taps
            nn.init.normal_(module.weight, std=1 / math.sqrt(fan_in), generator=generator)
            nn.init.zeros_(module.bias)
    with torch.no_grad():
        for unit in vae.modules():
            if isinstance(unit, ResidualUnit):
                unit.block[-1].weight.mul_(BRANCH_SCALE)
        vae.decoder.model[-2].weight.mul_(OUTPUT_SCALE)
        vae.encoder.block[0].weight.div_(TYPICAL_LEVEL)
        channels = vae.config.latent_channels
        noise = TYPICAL_LEVEL * torch.randn(1, 1, 50 * vae.config.hop, generator=generator)
        vae.quant_conv.weight[:channels].div_(vae.posterior(noise)[0].std())
        vae.quant_conv.weight[channels:].zero_()
        vae.quant_conv.bias[channels:].fill_(INITIAL_LOGVAR)


def starting_vae(config: CodecConfig) -> DACVAE:
    """The DAC-VAE to train; errors as of `starting_network`."""
    return starting_network(config, "DAC-VAE", DACVAE, initialise, load_vae)


def exported(vae: DACVAE) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of the file that inference loads."""
    return vae.state_dict(), {"format": "pt", "model": "DAC-VAE", "config": json.dumps(asdict(vae.config))}


class CodecObjective:
    """The DAC-VAE's side of `loop.Objective`; batches have "waveform" [B,1,N], N a multiple of the hop."""

    averaged = "codec"

    def __init__(self, config: CodecConfig):
        self.config, self.adversary = config, config.adversary
        self.vae = starting_vae(config)
        if config.part == "decoder":
            for module in (self.vae.encoder, self.vae.quant_conv):
                module.requires_grad_(False)
        self.reconstruct = torch.compile(self._reconstruct) if config.compile else self._reconstruct
        self.spectral = SpectralLatents(config.model.latent_channels) if config.spectral_share else None
        self.phases = [Phase("codec", trainable(self.vae), config.optimiser)]
        if config.adversary.start < config.loop.steps:
            generator = seeded(config.loop.seed, INITIALISATION_STREAM, 1)
            self.discriminators = _seeded_discriminators(config.adversary.width, generator).to(config.device)
            judges = dict(self.discriminators.named_parameters())
            self.phases.append(Phase("discriminators", judges, config.adversary.optimiser))

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[PhaseLoss]:
        waveform, weights = batch["waveform"].to(self.config.device), self.config.losses
        given = self._given(waveform)
        mean, logvar, decoded = self.reconstruct(waveform[len(given):], self._noise(waveform, generator), given)
        mel, magnitude = losses.spectral_losses(decoded, waveform, weights.windows, weights.floor)
        parts = {
            "mel": mel, "magnitude": magnitude, "waveform": losses.waveform_loss(decoded, waveform),
            "peaks": losses.peak_loss(decoded, waveform),
            "kl": losses.kl_divergence(mean, logvar),
        }
        loss = sum(getattr(weights, name) * value for name, value in parts.items())
        if step >= self.adversary.start:
            real = self.discriminators(waveform)
            yield "discriminators", losses.discriminator_loss(real, self.discriminators(decoded.detach())), {}
            # The judges' own weights get no gradient from what the codec wants of them.
            self.discriminators.requires_grad_(False)
            fake = self.discriminators(decoded)
            self.discriminators.requires_grad_(True)
            judged = {"adversarial": losses.adversarial_loss(fake), "features": losses.feature_loss(real, fake)}
            loss = loss + sum(getattr(self.adversary, name) * value for name, value in judged.items())
            parts |= judged
        yield "codec", loss, parts

    def _noise(self, waveform: Tensor, generator: torch.Generator) -> Tensor:
        shape = (len(waveform), self.config.model.latent_channels, waveform.shape[-1] // self.config.model.hop)
        return torch.randn(shape, generator=generator).to(waveform)

    def _given(self, waveform: Tensor) -> Tensor:
        """Spectral latents of the first sounds, as many as `spectral_share` says."""
        count = round(self.config.spectral_share * len(waveform))
        if not count:
            return waveform.new_zeros(0, self.config.model.latent_channels, waveform.shape[-1] // self.config.model.hop)
        return self.spectral(waveform[:count])

    def _reconstruct(self, waveform: Tensor, noise: Tensor, given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The posterior's mean and logvar, and what the given latents, and after them a draw from it, sound like."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.part != "decoder"):
            mean, logvar = self.vae.posterior(waveform)
        draw = mean + (0.5 * logvar).exp() * noise[len(given):]
        return mean, logvar, self.vae.synthesise(torch.cat((given + SPECTRAL_NOISE * noise[: len(given)], draw)))

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Reconstruction from the posterior's mean, as inference does it."""
        waveform = batch["waveform"].to(self.config.device)
        mean, logvar = self.vae.posterior(waveform)
        decoded = self.vae.synthesise(mean)
        from_spectral = {} if self.spectral is None else {"mel_distance_from_spectral": metrics.mel_distance(
            self.vae.synthesise(self.spectral(waveform)), waveform
        ).mean().item()}
        return {
            "mel_distance": metrics.mel_distance(decoded, waveform).mean().item(), **from_spectral,
            "si_sdr_db": metrics.si_sdr(decoded, waveform).mean().item(),
            "level_error_db": metrics.level_error(decoded, waveform).mean().item(),
            **metrics.latent_statistics(mean, logvar),
        }

    def preview(self, batch: Batch, generator: torch.Generator, folder: Path) -> None:
        """The first sounds of the batch as they are and as they come out."""
        for index, waveform in enumerate(batch["waveform"][:PREVIEWS].to(self.config.device)):
            decoded = self.vae.synthesise(self.vae.posterior(waveform[None])[0])[0]
            media.write_audio(folder / f"{index}-original.flac", waveform.cpu(), SAMPLE_RATE)
            media.write_audio(folder / f"{index}-decoded.flac", decoded.cpu(), SAMPLE_RATE)

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return exported(self.vae)


@torch.no_grad()
def normalise_latents(vae: DACVAE, waveforms: Iterable[Tensor]) -> None:
    """Makes the latents of these waveforms [B,1,N] have mean 0 in each channel and variance 1 over all of them.

    Nothing changes in what the codec gives back: the layers on both sides of the latents take the shift and the scale
    in. One scale for all keeps the channels' weight in the transformer's loss at what they say about the sound.
    """
    latents = torch.cat([rearrange(vae.posterior(waveform)[0], "B C L -> C (B L)") for waveform in waveforms], 1)
    mean = latents.mean(1)
    scale = (latents - mean[:, None]).square().mean().sqrt()
    inside, outside, channels = vae.quant_conv, vae.post_quant_conv, len(mean)
    outside.bias.add_(outside.weight[..., 0] @ mean)
    outside.weight.mul_(scale)
    inside.bias[:channels].sub_(mean)
    inside.weight[:channels].div_(scale)
    inside.bias[:channels].div_(scale)
    inside.bias[channels:].sub_(2 * scale.log())


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def _seeded_discriminators(width: int, generator: torch.Generator) -> Discriminators:
    """Discriminators whose layers draw from `generator`; PyTorch's own initialisation asks the global one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return Discriminators(width)
