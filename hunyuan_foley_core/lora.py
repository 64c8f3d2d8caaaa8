"""LoRA files in ComfyUI's native layout: what they hold, whether they fit a transformer, and merging them into it.

`diffusion_model.<layer>.lora_A.weight` [r, in] (convolution: [r, in, k]), `.lora_B.weight` [out, r] (convolution:
[out, r, 1]) and `.alpha`; they add alpha / r * B A to the layer's weight. LoRA is arXiv 2106.09685.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from . import quantization
from .errors import CheckpointError, DamagedFileError, MissingFileError, WrongFileError
from .model import FoleyTransformer

PREFIX = "diffusion_model."
DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
BLOCKS = ("triple_blocks.", "single_blocks.")

State = dict[str, Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delta:
    """What a LoRA adds to one layer.

    Attributes:
        down, up: A and B.
        scale: alpha / r.
    """

    down: Tensor
    up: Tensor
    scale: float

    def weight(self, like: Tensor) -> Tensor:
        """The addition in the shape and on the device of a weight, float32."""
        up, down = (part.to(like.device, torch.float32).flatten(1) for part in (self.up, self.down))
        return (self.scale * (up @ down)).reshape(like.shape)


def layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every linear layer and convolution of the blocks, by the name that a LoRA's keys have for it."""
    for name, module in model.named_modules():
        if name.startswith(BLOCKS) and isinstance(module, (nn.Linear, nn.Conv1d)):
            yield name, module


def fingerprint(model: FoleyTransformer) -> str:
    """16 hex digits that tell checkpoints of the same sizes apart, but not the types they are stored in.

    Taken in bf16 over everything but the matrices of the blocks, which an fp8 file rounds.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.named_parameters()):
        if not (name.startswith(BLOCKS) and (tensor.ndim > 1 or ".lora_" in name)):
            digest.update(name.encode())
            digest.update(tensor.detach().to("cpu", torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def read(path: str | Path) -> tuple[State, dict[str, str]]:
    """The tensors and the metadata of a LoRA file.

    Raises:
        CheckpointError: no such file, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no file {path}.", "Expected a LoRA.", "Check the folder and the name.")
    try:
        with safe_open(str(path), framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DamagedFileError(
            f"{path.name} cannot be read as safetensors: {error}.", "Expected a complete LoRA file.",
            "Copy it again, or take the checkpoint before it.",
        ) from error


def load(path: str | Path, model: FoleyTransformer) -> State:
    """The tensors of a LoRA file that fits `model`; a warning where it was trained on other weights of the same sizes.

    Raises:
        CheckpointError: the file cannot be read, has keys the model does not, or was made for other widths.
    """
    state, metadata = read(path)
    base, name = _base(metadata), Path(path).name
    try:
        deltas(model, state, name)
    except CheckpointError as error:
        own = model.config.to_dict()
        differing = ", ".join(f"{size} {base[size]}" for size in own if base.get(size, own[size]) != own[size])
        made_for = f"It was trained on a model of {differing}." if differing else ""
        raise type(error)(error.found, f"{error.expected} {made_for}".strip(), error.remedy) from error
    if base.get("fingerprint") not in (None, fingerprint(model)):
        logger.warning("%s was trained on another checkpoint of the same sizes; it may not sound as intended.", name)
    return state


def _base(metadata: dict[str, str]) -> dict[str, Any]:
    """Sizes and fingerprint of the model that a LoRA made here was trained on; empty for others."""
    try:
        base = json.loads(metadata.get("base", "{}"))
    except json.JSONDecodeError:
        return {}
    return base if isinstance(base, dict) else {}


def deltas(model: FoleyTransformer, state: State, name: str = "The LoRA") -> dict[str, Delta]:
    """What a LoRA adds to each layer it knows, checked against the model.

    Raises:
        CheckpointError: keys that are no LoRA's, layers the model does not have, halves missing, or other widths.
    """
    found, known = _pairs(state, name), dict(layers(model))
    unknown = sorted(found.keys() - known.keys())
    if unknown:
        raise WrongFileError(
            f"{name} changes {len(unknown)} layers that this model does not have: {_few(unknown)}.",
            f"Expected only layers of its {len(model.triple_blocks)} multimodal and {len(model.single_blocks)} unimodal "
            "blocks.",
            "Load the model that the LoRA was trained on.",
        )
    for layer, delta in found.items():
        _check_widths(layer, delta, known[layer].weight, name)
    return found


def _pairs(state: State, name: str) -> dict[str, Delta]:
    """The LoRA by layer; every key belongs to a whole pair."""
    names = {key.removeprefix(PREFIX).removesuffix(DOWN) for key in state if _is_ours(key, DOWN)}
    wanted = {f"{PREFIX}{layer}{ending}" for layer in names for ending in (DOWN, UP)}
    allowed = wanted | {f"{PREFIX}{layer}{ALPHA}" for layer in names}
    strange, missing = sorted(state.keys() - allowed), sorted(wanted - state.keys())
    if strange or missing or not names:
        said = [f"has unknown keys: {_few(strange)}"] if strange else []
        said += [f"lacks {_few(missing)}"] if missing else []
        raise WrongFileError(
            f"{name} {' and '.join(said) or 'holds nothing'}.",
            f"Expected {PREFIX}<layer> with {DOWN}, {UP} and, if need be, {ALPHA}.",
            "Pick a LoRA for HunyuanVideo-Foley in ComfyUI's native layout.",
        )
    pairs = {}
    for layer in sorted(names):
        down, up = state[f"{PREFIX}{layer}{DOWN}"], state[f"{PREFIX}{layer}{UP}"]
        alpha = state.get(f"{PREFIX}{layer}{ALPHA}")
        pairs[layer] = Delta(down, up, 1.0 if alpha is None else float(alpha) / len(down))
    return pairs


def _is_ours(key: str, ending: str) -> bool:
    return key.startswith(PREFIX) and key.endswith(ending)


def _check_widths(layer: str, delta: Delta, weight: Tensor, name: str) -> None:
    rank, ones = len(delta.down), [1] * (weight.ndim - 2)
    expected = [[rank, *weight.shape[1:]], [weight.shape[0], rank, *ones]]
    given = [list(delta.down.shape), list(delta.up.shape)]
    if given != expected:
        raise WrongFileError(
            f"{name} has A {given[0]} and B {given[1]} for the layer {layer}.",
            f"This model's layer takes A {expected[0]} and B {expected[1]}.",
            "Load the model that the LoRA was trained on: XL and XXL need LoRAs of their own.",
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@torch.no_grad()
def merge(model: FoleyTransformer, state: State, strength: float = 1.0) -> None:
    """Adds a LoRA to the weights, computed in float32 and kept in the type each weight is stored in.

    Raises:
        CheckpointError: it does not fit the model; nothing is changed.
    """
    found, known = deltas(model, state), dict(layers(model))
    for name, delta in found.items():
        layer = known[name]
        scale = getattr(layer, "weight_scale", None)
        weight = layer.weight.float() if scale is None else quantization.dequantize(layer.weight, scale)
        changed = weight + strength * delta.weight(layer.weight)
        if scale is None:
            changed = changed.to(layer.weight.dtype)
        else:
            changed, layer.weight_scale = quantization.quantize(changed, layer.weight.dtype)
        layer.weight = nn.Parameter(changed, requires_grad=False)
