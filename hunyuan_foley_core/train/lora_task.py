"""Training a LoRA: the flow-matching objective over a frozen transformer, saved for ComfyUI."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import checkpoint, lora
from ..convert import DTYPES
from ..model import FoleyTransformer
from ..vae import DACVAE
from . import sharding
from .config import LoopConfig, OptimiserConfig, Settings, at_least, one_of
from .features import FeatureConfig
from .flow import PRECISIONS, FlowObjective, ObjectiveConfig, PreviewConfig
from .lora import PRESETS, add_lora, describe, lora_state_dict
from .loop import seeded

INITIALISATION_STREAM = 3
# How the matrices of the blocks, nearly all of the base, are kept; the rest stays as in the file.
STORAGES = {"as in the file": None, "bf16": torch.bfloat16, "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2}


@dataclass(frozen=True)
class LoRAConfig:
    """What is added to the transformer.

    Attributes:
        preset: which layers: all, multimodal, unimodal or attention.
        alpha: the addition is scaled by alpha / rank, or alpha / sqrt(rank) with `rslora`.
        save_as: type of the saved matrices, fp32, bf16 or fp16; they are float32 while they are trained.
    """

    preset: str
    rank: int
    alpha: float
    rslora: bool
    save_as: str

    def __post_init__(self):
        one_of("lora.preset", self.preset, tuple(PRESETS))
        one_of("lora.save_as", self.save_as, tuple(DTYPES))
        at_least(self, "lora", 1, "rank")


@dataclass(frozen=True)
class LoRARunConfig:
    """A whole run that trains a LoRA.

    Attributes:
        start: file of the transformer it is for.
        storage: a key of `STORAGES`, how that is kept in memory.
        precision: what the blocks compute in, fp32 or bf16.
        checkpointing: compute blocks again in the backward pass instead of keeping what they made.
    """

    task: str
    out: str
    device: str
    start: str
    storage: str
    precision: str
    checkpointing: bool
    lora: LoRAConfig
    data: FeatureConfig
    objective: ObjectiveConfig
    preview: PreviewConfig
    optimiser: OptimiserConfig
    loop: LoopConfig

    def __post_init__(self):
        one_of("storage", self.storage, tuple(STORAGES))
        one_of("precision", self.precision, PRECISIONS)


class LoRAObjective(FlowObjective):
    """Batches as from `CachedClips`; what it exports is a LoRA file.

    Args:
        transformer: gets the LoRA; on `config.device`.
        vae: decodes previews; None: there are none.
        settings: kept in the file's metadata.
    """

    def __init__(self, config: LoRARunConfig, transformer: FoleyTransformer, vae: DACVAE | None, settings: Settings):
        chosen, generator = config.lora, seeded(config.loop.seed, INITIALISATION_STREAM)
        recipe = dict(preset=chosen.preset, rank=chosen.rank, alpha=chosen.alpha, rslora=chosen.rslora)
        self.metadata = describe(transformer, settings=_without_paths(settings), **recipe)
        trainable = add_lora(transformer, generator=generator, **recipe)
        sharding.shard(transformer, config.device)
        named = dict(transformer.named_parameters())
        super().__init__(config, transformer, {name: named[name] for name in trainable}, vae=vae)

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        dtype = DTYPES[self.config.lora.save_as]
        state = lora_state_dict(self.transformer)
        return {key: value.to(dtype) if value.ndim else value for key, value in state.items()}, self.metadata


def _without_paths(settings: Settings) -> Settings:
    """What of a run's settings goes out with its file: how it was trained, not where things lie on this machine."""
    kept = {name: settings[name] for name in ("storage", "precision", "objective", "optimiser", "loop") if name in settings}
    return kept | ({"start": Path(settings["start"]).name} if "start" in settings else {})


def load_base(path: str, storage: str, device: str) -> FoleyTransformer:
    """The frozen transformer, the matrices of its blocks kept as `storage` says."""
    transformer, dtype = checkpoint.load_transformer(path), STORAGES[storage]
    for _, layer in lora.layers(transformer) if dtype is not None else ():
        layer.weight.data = layer.weight.data.to(dtype)
    return transformer.to(device)
