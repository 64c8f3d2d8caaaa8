"""The flow-matching objective of the transformer, with REPA and guidance dropout (arXiv 2508.16930, 2410.06940).

At noise level s a latent x becomes s * noise + (1 - s) * x, and the transformer learns the velocity noise - x at model time
1000 * s, the convention that sampling uses.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.utils.checkpoint
from einops import reduce
from torch import Tensor, nn
from torch.amp import autocast

from .. import media
from ..config import TransformerConfig
from ..model import FoleyTransformer
from ..model.rope import THETA
from ..sampling import TIMESTEP_SCALE, make_noise, sample
from ..timing import SAMPLE_RATE
from ..vae.dac import DACVAE
from .config import LoopConfig, OptimiserConfig, at_least, one_of
from .errors import TrainingError
from .features import FeatureConfig
from .initialisation import xavier
from .loop import Batch, Phase, PhaseLoss
from .pictures import write_spectrograms
from .repa import Projector, alignment_loss

TIMESTEPS, PRECISIONS = ("logit_normal", "uniform"), ("fp32", "bf16")
VALIDATION_SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
PREVIEWS = 2


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is asked of the transformer.

    Attributes:
        timesteps: how noise levels are drawn: the sigmoid of a standard normal, or uniform.
        shift: moves them towards noise as it does in sampling (`sampling.linear_sigmas`); 1 leaves them. Latents of many
            channels that say the same show through until the noise is almost all there is; only above that level does
            the transformer have to look at the conditions.
        sample_latents: draw training latents from the DAC-VAE's posterior instead of taking its mean.
        visual_dropout: how often the visual and sync features of a clip both give way to the learned empty ones.
        text_dropout: how often the text gives way to the empty prompt.
    """

    timesteps: str
    shift: float
    sample_latents: bool
    visual_dropout: float
    text_dropout: float

    def __post_init__(self):
        one_of("objective.timesteps", self.timesteps, TIMESTEPS)
        if not self.shift > 0:
            raise TrainingError(f"objective.shift is {self.shift}.", "Expected a number above 0.", "1 is no shift.")
        for name in ("visual_dropout", "text_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"objective.{name} is {getattr(self, name)}.", "Expected 0 to 1.", "Change it.")


@dataclass(frozen=True)
class RepaConfig:
    """Alignment with the frozen teacher whose features are in the cache.

    Attributes:
        weight: of its loss; 0 leaves it out.
        block: the unimodal block that is aligned, counted from 1.
        width: of the projector's hidden layers.
    """

    weight: float
    block: int
    width: int


@dataclass(frozen=True)
class PreviewConfig:
    """Sounds made at each validation.

    Attributes:
        vae: file of the DAC-VAE that decodes them; empty: none are made.
        steps, guidance_scale: of the sampler.
    """

    vae: str
    steps: int
    guidance_scale: float

    def __post_init__(self):
        at_least(self, "preview", 1, "steps")


@dataclass(frozen=True)
class FlowConfig:
    """A whole run that trains the transformer.

    Attributes:
        start: file of weights to start from; empty: random ones.
        precision: what the blocks compute in, fp32 or bf16; weights, losses and optimiser stay in float32.
        checkpointing: compute blocks again in the backward pass instead of keeping what they made.
    """

    task: str
    out: str
    device: str
    start: str
    precision: str
    checkpointing: bool
    model: TransformerConfig
    data: FeatureConfig
    objective: ObjectiveConfig
    repa: RepaConfig
    preview: PreviewConfig
    optimiser: OptimiserConfig
    loop: LoopConfig

    def __post_init__(self):
        one_of("precision", self.precision, PRECISIONS)


class Reader:
    """A `call_block` for `FoleyTransformer.denoise` that keeps what one unimodal block gave, and may checkpoint them all.

    Attributes:
        hidden: output [B,L,D] of the block in the last call; None: no block is read.
    """

    def __init__(self, block: int | None, checkpointing: bool):
        self.block, self.checkpointing, self.hidden = block, checkpointing, None

    def __call__(self, kind: str, index: int, block: nn.Module, *inputs):
        if self.checkpointing:
            output = torch.utils.checkpoint.checkpoint(block, *inputs, use_reentrant=False)
        else:
            output = block(*inputs)
        if kind == "single_block" and index + 1 == self.block:
            self.hidden = output
        return output


class FlowObjective:
    """The side of `loop.Objective` that trains the transformer or something added to it; batches as from `CachedClips`.

    Args:
        config: anything with the fields `objective`, `repa`, `preview`, `precision`, `checkpointing`, `optimiser`, `device`.
        transformer: computes the velocity; on `config.device`.
        trainable: the parameters that the optimiser moves, by name: all of the transformer's, or those of a LoRA.
        projector: of REPA; None where `repa.weight` is 0.
        vae: decodes previews; None: there are none.
    """

    averaged = "transformer"

    def __init__(
        self, config, transformer: nn.Module, trainable: dict[str, nn.Parameter],
        projector: Projector | None = None, vae: DACVAE | None = None,
    ):
        self.config, self.transformer, self.projector, self.vae = config, transformer, projector, vae
        beside = {} if projector is None else {f"projector.{key}": p for key, p in projector.named_parameters()}
        self.phases = [Phase("transformer", {**trainable, **beside}, config.optimiser, hidden_matrices(trainable))]
        self.reader = Reader(config.repa.block if projector is not None else None, config.checkpointing)

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[PhaseLoss]:
        latents = self._latents(batch, generator)
        sigma = draw_sigmas(len(latents), self.config.objective, generator)
        conditions = self._dropped(batch, generator)
        flow = reduce(self._errors(latents, sigma, conditions, generator), "B C L -> B", "mean")
        parts = {"flow": flow.mean()}
        loss = parts["flow"]
        if self.projector is not None:
            parts["repa"] = alignment_loss(self.projector(self.reader.hidden.float()), batch["teacher"].to(flow.device))
            loss = loss + self.config.repa.weight * parts["repa"]
        yield "transformer", loss, parts

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """The flow loss at fixed noise levels and their mean, with every condition present."""
        latents, conditions = batch["mean"].to(self.config.device), self._conditions(batch)
        errors = {}
        for sigma in VALIDATION_SIGMAS:
            level = torch.full((len(latents),), sigma)
            errors[f"flow_at_{sigma}"] = self._errors(latents, level, conditions, generator).mean().item()
        return {"flow": sum(errors.values()) / len(errors), **errors}

    def preview(self, batch: Batch, generator: torch.Generator, folder: Path) -> None:
        """Sounds for the first clips of the batch, beside what the DAC-VAE makes of the true ones, and a picture of all."""
        if self.vae is None:
            return
        device, chosen = self.config.device, slice(PREVIEWS)
        truth = batch["mean"][chosen].to(device)
        noise = make_noise(len(truth), truth.shape[1], truth.shape[2], int(torch.randint(2**31, (), generator=generator)))
        conditions = self._conditions(batch)
        with self._computing():
            made = sample(
                self.transformer, noise.to(device), text=conditions["text"][chosen],
                negative_text=batch["empty_text"].to(device), visual=conditions["visual"][chosen],
                sync=conditions["sync"][chosen], steps=self.config.preview.steps,
                guidance_scale=self.config.preview.guidance_scale,
            )
        rows = {}
        for index, (ours, theirs) in enumerate(zip(made.split(1), truth.split(1))):
            for name, latents in (("made", ours), ("true", theirs)):
                rows[f"{index}-{name}"] = self.vae.decode(latents, output_device="cpu")[0]
                media.write_audio(folder / f"{index}-{name}.flac", rows[f"{index}-{name}"], SAMPLE_RATE)
        write_spectrograms(folder / "spectrograms.png", list(rows.values()))

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return self.transformer.state_dict(), {"format": "pt"}

    def _latents(self, batch: Batch, generator: torch.Generator) -> Tensor:
        mean = batch["mean"]
        if self.config.objective.sample_latents:
            mean = mean + (0.5 * batch["logvar"]).exp() * torch.randn(mean.shape, generator=generator)
        return mean.to(self.config.device)

    def _conditions(self, batch: Batch) -> dict[str, Tensor]:
        return {name: batch[name].to(self.config.device) for name in ("text", "visual", "sync")}

    def _dropped(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """The conditions, in some clips replaced by what stands for none: one draw for both kinds of picture features."""
        chances, given, size = self.config.objective, self._conditions(batch), len(batch["text"])
        unseen, untold = (torch.rand(2, size, generator=generator) < torch.tensor(
            [[chances.visual_dropout], [chances.text_dropout]]
        ))[..., None, None].to(self.config.device)
        empty_visual = self.transformer.empty_visual(given["visual"].shape[1])
        empty_sync = self.transformer.empty_sync(given["sync"].shape[1])
        return {
            "text": torch.where(untold, batch["empty_text"].to(given["text"]), given["text"]),
            "visual": torch.where(unseen, empty_visual.to(given["visual"]), given["visual"]),
            "sync": torch.where(unseen, empty_sync.to(given["sync"]), given["sync"]),
        }

    def _errors(self, latents: Tensor, sigma: Tensor, conditions: dict[str, Tensor], generator: torch.Generator) -> Tensor:
        """Squared errors [B,C,L] of the velocity at the noise levels sigma [B]."""
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        level = sigma.to(latents)[:, None, None]
        noisy = level * noise + (1 - level) * latents
        with self._computing():
            velocity = self.transformer(
                noisy, TIMESTEP_SCALE * sigma.to(latents), **conditions, call_block=self.reader
            )
        return (velocity.float() - (noise - latents)).square()

    def _computing(self):
        device = torch.device(self.config.device).type
        return autocast(device, torch.bfloat16, enabled=self.config.precision == "bf16")


def draw_sigmas(count: int, objective: ObjectiveConfig, generator: torch.Generator) -> Tensor:
    """Noise levels [count] in 0..1."""
    if objective.timesteps == "uniform":
        sigma = torch.rand(count, generator=generator)
    else:
        sigma = torch.sigmoid(torch.randn(count, generator=generator))
    return objective.shift * sigma / (1 + (objective.shift - 1) * sigma)


# Gated products of small numbers come out far smaller than the noisy latents that they are added to, and what is not heard
# at the start is not learned: at width 128 the transformer ignored the picture for thousands of updates. With these the
# conditions begin about as strong as the latents.
GAINS = {"sync_in.0.weight": 2.0, "sync_in.2.w2.weight": 4.0, "visual_proj.w2.weight": 4.0, "time_in.mlp.2.weight": 2.0}


# Parts of the transformer whose linear layers lie between hidden ones.
HIDDEN = ("triple_blocks.", "single_blocks.", "sync_in.", "visual_proj.", "cond_in.")


def hidden_matrices(parameters: dict[str, nn.Parameter]) -> frozenset[str]:
    """Names of the transformer's matrices that lie between hidden layers, which is what Muon is for."""
    return frozenset(name for name, value in parameters.items() if value.ndim == 2 and name.startswith(HIDDEN))


def initialise(transformer: FoleyTransformer, generator: torch.Generator) -> None:
    """Random weights: Xavier-uniform layers with `GAINS` for the conditions, gates and the output at zero, and `clocks`.

    Blocks begin as the identity then, whatever their number, as in a DiT (arXiv 2212.09748), but for what tells places.
    """
    xavier(transformer, generator)
    for name, parameter in transformer.named_parameters():
        if "mod.linear" in name or "modulation" in name or name.startswith("final_layer."):
            nn.init.zeros_(parameter)
        elif name.startswith(("empty_", "sync_pos_emb")):
            nn.init.normal_(parameter, std=0.02, generator=generator)
        elif name in GAINS:
            with torch.no_grad():
                parameter.mul_(GAINS[name])
    clocks(transformer)


# A sync token stands later than what it shows, by more the later in the clip: where a hit belongs can only be learned by a
# network that knows places, and attention told by RoPE knows distances. But positions of text count from 0, so attention to
# text whose queries and keys are the same everywhere depends on the place alone. With such heads, open from the start, less of
# the latents' variance was left after 400 updates, 0.375 to 0.380 for 0.393 (small model, docs/training.md).
CLOCK_RATES = (0.03, 0.01)  # radians a latent: the first tells places within 1 s or so, the second within 6 s
CLOCK_BIAS = 8.0  # far above what the weights give
CLOCK_GAIN = 8.0
CLOCK_GATE = 1.0


@torch.no_grad()
def clocks(transformer: FoleyTransformer) -> None:
    """Makes the first heads of text attention in the first two multimodal blocks, as far as there are as many, tell places.

    Queries and keys of such a head point along one slow pair of RoPE's everywhere, a quarter turn apart in the first block.
    """
    sizes = transformer.config
    heads, width, channels = sizes.num_heads, sizes.head_dim, sizes.hidden_size
    for index, block in enumerate(transformer.triple_blocks[:2]):
        queries = block.audio_cross_q.bias.view(heads, width)
        keys, _ = block.text_cross_kv.bias.view(2, heads, width)
        _, values = block.text_cross_kv.weight.view(2, heads, width, channels)
        for head, rate in zip(range(heads // 2), CLOCK_RATES):
            pair = 2 * min(round(-math.log(rate) / math.log(THETA) * width / 2), width // 2 - 1)
            queries[head, pair] = CLOCK_BIAS
            keys[head, pair + (index == 0)] = -CLOCK_BIAS if index == 0 else CLOCK_BIAS
            values[head] *= CLOCK_GAIN
        gates = block.audio_mod.linear.bias.view(9, channels)
        gates[5] = CLOCK_GATE
