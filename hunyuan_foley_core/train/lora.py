"""LoRA while it is trained: small float32 matrices beside frozen layers of any storage type.

LoRA: arXiv 2106.09685; the scale of rank-stabilised LoRA: arXiv 2312.03732. The files are described in `..lora`.
"""

import json
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..lora import ALPHA, DOWN, PREFIX, UP, State, fingerprint, layers
from ..model import FoleyTransformer
from ..ops import cast
from .errors import TrainingError

# The layers of both block kinds that make up attention; the others are modulation and MLPs.
ATTENTION = {
    "audio_self_attn_qkv", "audio_self_proj", "audio_cross_q", "audio_cross_proj",
    "v_cond_attn_qkv", "v_cond_self_proj", "v_cond_cross_q", "v_cond_cross_proj",
    "text_cross_kv", "linear_qkv", "linear1",
}
# Which layers to train, by the list of blocks and the part of the block they are in.
PRESETS: dict[str, Callable[[str, str], bool]] = {
    "all": lambda blocks, part: True,
    "multimodal": lambda blocks, part: blocks == "triple_blocks",
    "unimodal": lambda blocks, part: blocks == "single_blocks",
    "attention": lambda blocks, part: part in ATTENTION,
}


def add_lora(
    model: FoleyTransformer, preset: str, rank: int, alpha: float, rslora: bool, generator: torch.Generator
) -> dict[str, nn.Parameter]:
    """Freezes a transformer and puts a LoRA that changes nothing yet beside the layers of a preset.

    Args:
        alpha: the addition's scale is alpha / rank, or alpha / sqrt(rank) with `rslora`.
        generator: on the CPU; draws A, while B begins at zero.

    Returns:
        The LoRA's parameters by name, float32, on the devices of their layers.

    Raises:
        TrainingError: an unknown preset, or a rank below 1.
    """
    if preset not in PRESETS:
        raise TrainingError(f"The LoRA preset is {preset!r}.", f"Known are {', '.join(PRESETS)}.", "Change it.")
    if rank < 1:
        raise TrainingError(f"The rank of the LoRA is {rank}.", "Expected 1 or more.", "Try 64.")
    model.requires_grad_(False)
    parameters = {}
    for name, layer in list(layers(model)):
        blocks, _, part, *_ = name.split(".")
        if PRESETS[preset](blocks, part):
            _attach(layer, rank, alpha / (math.sqrt(rank) if rslora else rank), generator)
            parameters |= {f"{name}.lora_A": layer.lora_A, f"{name}.lora_B": layer.lora_B}
    return parameters


def _attach(layer: nn.Module, rank: int, scale: float, generator: torch.Generator) -> None:
    outputs, *inputs = layer.weight.shape
    bound = 1 / math.sqrt(math.prod(inputs))
    down = torch.empty(rank, *inputs).uniform_(-bound, bound, generator=generator)
    up = torch.zeros(outputs, rank, *[1] * (len(inputs) - 1))
    # Parameters of the layer itself, so that sharding a block shards its LoRA; added by a hook, so that any namespace of
    # layers will do.
    layer.lora_A, layer.lora_B = (nn.Parameter(part.to(layer.weight.device)) for part in (down, up))
    layer.lora_scale = scale
    layer.register_forward_hook(_add)


def _add(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (x,) = inputs
    down, up = cast(layer.lora_A, x), cast(layer.lora_B, x)
    if isinstance(layer, nn.Conv1d):
        change = F.conv1d(F.conv1d(x, down, None, layer.stride, layer.padding, layer.dilation), up)
    else:
        change = F.linear(F.linear(x, down), up)
    return output + layer.lora_scale * change


def lora_state_dict(model: FoleyTransformer) -> State:
    """The LoRA of a model under ComfyUI's native keys."""
    state = {}
    for name, layer in layers(model):
        if hasattr(layer, "lora_A"):
            state[f"{PREFIX}{name}{DOWN}"] = layer.lora_A.detach()
            state[f"{PREFIX}{name}{UP}"] = layer.lora_B.detach()
            # ComfyUI divides by the rank, whatever rule the scale came from.
            state[f"{PREFIX}{name}{ALPHA}"] = torch.tensor(float(layer.lora_scale * len(layer.lora_A)))
    return state


def describe(
    model: FoleyTransformer, preset: str, rank: int, alpha: float, rslora: bool, settings: dict[str, Any]
) -> dict[str, str]:
    """Metadata of a LoRA file: what it is, the model it belongs to, and how it was trained."""
    base = model.config.to_dict() | {"fingerprint": fingerprint(model)}
    return {
        "format": "pt", "model": "HunyuanVideo-Foley LoRA", "rank": str(rank), "alpha": str(alpha),
        "rslora": str(rslora).lower(), "preset": preset, "base": json.dumps(base), "training": json.dumps(settings),
    }
