"""What of the transformer fp8 may hold, and the three ways in which files write it with scales.

Scaled fp8 keeps weight / scale, with one scale for each linear layer, so that the largest value of a layer is the
largest that the type has (448 in e4m3fn). ComfyUI knows it as a key `scaled_fp8` with `<layer>.scale_weight`, as
`_quantization_metadata` in a safetensors header, and as `<layer>.comfy_quant`; the last two go with
`<layer>.weight_scale`. In here it is `<layer>.weight` and `<layer>.weight_scale`, a float32 scalar, and nothing else.
"""

import json
import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from .errors import CheckpointError

StateDict = dict[str, Tensor]

FORMATS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
FP8 = tuple(FORMATS.values())
BLOCKS = ("triple_blocks.", "single_blocks.")
SCALE, LAYER_MARK = ".weight_scale", ".comfy_quant"
OLD_SCALE, OLD_MARK = ".scale_weight", "scaled_fp8"
INPUT_SCALES = (".input_scale", ".scale_input")  # for products in fp8; ours are in the type of the activations
HEADER = "_quantization_metadata"
# A second scale belongs to formats of 4 bits.
MARKS = (SCALE, LAYER_MARK, OLD_SCALE, *INPUT_SCALES, ".weight_scale_2")


DEVICES_WITHOUT_FP8 = ("mps",)

logger = logging.getLogger(__name__)


def serves(key: str, ndim: int, scaled: bool = False) -> bool:
    """Whether a weight may be kept in fp8: the matrices of the blocks, nearly all of the model.

    Args:
        scaled: only those of linear layers; ComfyUI knows no scales for convolutions.
    """
    return key.startswith(BLOCKS) and (ndim == 2 if scaled else ndim >= 2)


def quantize(weight: Tensor, dtype: torch.dtype = torch.float8_e4m3fn) -> tuple[Tensor, Tensor]:
    """A weight as (values of `dtype`, scale); the scale is a float32 scalar."""
    largest = torch.finfo(dtype).max
    wide = weight.float()
    scale = wide.abs().amax() / largest
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (wide / scale).clamp_(-largest, largest).to(dtype), scale


def dequantize(weight: Tensor, scale: Tensor) -> Tensor:
    """What `quantize` was given, rounded, in float32."""
    return weight.float() * scale


def is_marked(keys: Iterable[str]) -> str | None:
    """The first key that only a file with scales has."""
    return next((key for key in keys if key.endswith(MARKS) or key.rpartition(".")[2] == OLD_MARK), None)


def marks_of(metadata: Mapping[str, str], name: str) -> StateDict:
    """What a safetensors header says of its layers, in the form of `.comfy_quant` tensors."""
    if HEADER not in metadata:
        return {}
    layers = _parse(metadata[HEADER], f"The metadata `{HEADER}` of {name}").get("layers")
    if not isinstance(layers, dict):
        raise CheckpointError(
            f"The metadata `{HEADER}` of {name} has no `layers`.",
            "Expected the format of each quantised layer by its name.", "Convert the original file again.",
        )
    return {layer + LAYER_MARK: encoded(found) for layer, found in layers.items()}


def encoded(layer: Mapping[str, object]) -> Tensor:
    """A layer's settings as ComfyUI keeps them in a tensor: the bytes of a JSON object."""
    return torch.tensor(list(json.dumps(layer).encode()), dtype=torch.uint8)


def settings(dtype: torch.dtype) -> dict[str, object]:
    """What ComfyUI is told of a layer in scaled `dtype`.

    Products are asked for in the type of the activations: rounding those to fp8 too, as newer versions do on GPUs that
    have such products, more than doubles the error of the guided velocity (docs/precision.md).
    """
    name = next(name for name, known in FORMATS.items() if known == dtype)
    return {"format": name, "full_precision_matrix_mult": True}


def header(layers: Iterable[str]) -> dict[str, str]:
    """The metadata of a file whose `layers` are in scaled e4m3fn, as ComfyUI 0.3.75 and newer read it."""
    described = {layer: settings(torch.float8_e4m3fn) for layer in layers}
    return {HEADER: json.dumps({"format_version": "1.0", "layers": described})}


def scale_key(key: str) -> str:
    """Where the scale of the weight at `key` is."""
    return key.removesuffix(".weight") + SCALE


def scaled_layers(tensors: Iterable[str]) -> list[str]:
    """Names of the layers that have a scale."""
    return [key.removesuffix(SCALE) for key in tensors if key.endswith(SCALE)]


def normalise(tensors: StateDict, name: str) -> StateDict:
    """A transformer's tensors with their scales, whichever way they were written, as `.weight_scale` alone.

    Raises:
        CheckpointError: formats that we do not read or that contradict each other, scales that are missing, not finite
            or not one for each layer.
    """
    old = [key for key in tensors if key.endswith(OLD_SCALE) or key == OLD_MARK]
    new = [key for key in tensors if key.endswith((SCALE, LAYER_MARK))]
    if old and new:
        raise _mixed(name, f"both `{old[0]}` and `{new[0]}`")
    _check_types(tensors, name)
    dropped = (LAYER_MARK, *INPUT_SCALES)
    kept = {key: value for key, value in tensors.items() if not key.endswith(dropped) and key != OLD_MARK}
    kept = {
        key.removesuffix(OLD_SCALE) + SCALE if key.endswith(OLD_SCALE) else key: value for key, value in kept.items()
    }
    if old or new:
        _check_all_scaled(kept, name)
    return {key: value for key, value in (_scale(key, kept, name) for key in kept) if value is not None}


def _check_types(tensors: StateDict, name: str) -> None:
    """One kind of fp8 in a file, and that is the one it says it holds."""
    found = {value.dtype: key for key, value in tensors.items() if value.dtype in FP8 and value.numel()}
    if len(found) > 1:
        raise _mixed(name, " and ".join(f"{str(dtype)[6:]} (`{key}`)" for dtype, key in found.items()))
    for key, value in tensors.items():
        if key.endswith(LAYER_MARK):
            layer = key.removesuffix(LAYER_MARK)
            declared = _format(value, layer, name)
            weight = tensors.get(f"{layer}.weight")
            if weight is not None and weight.dtype != FORMATS[declared]:
                raise _mixed(name, f"{str(weight.dtype)[6:]} in `{layer}`, which it says is {declared}")
    marker = tensors.get(OLD_MARK)
    if marker is not None and marker.dtype in FP8 and found and marker.dtype not in found:
        held = ", ".join(str(dtype)[6:] for dtype in found)
        raise _mixed(name, f"{held}, while its `{OLD_MARK}` says {str(marker.dtype)[6:]}")


def _mixed(name: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{name} mixes formats: it holds {what}.", "Expected one kind of fp8, written in one way.",
        "Convert the original bf16 file again.",
    )


def _format(mark: Tensor, layer: str, name: str) -> str:
    found = _parse(bytes(mark.flatten().tolist()).decode(errors="replace"), f"`{layer}{LAYER_MARK}` of {name}")
    declared = found.get("format")
    if declared not in FORMATS:
        raise CheckpointError(
            f"{name} holds `{layer}` in the format {declared}.", f"This version reads {', '.join(FORMATS)}.",
            "Take such a file, or one in bf16.",
        )
    return declared


def _parse(text: str, what: str) -> dict:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        parsed = None
    if not isinstance(parsed, dict):
        raise CheckpointError(f"{what} is not a JSON object.", "Expected one.", "Convert the original file again.")
    return parsed


def _check_all_scaled(tensors: StateDict, name: str) -> None:
    unscaled = [
        key for key, value in tensors.items()
        if value.dtype in FP8 and value.ndim == 2 and key.endswith(".weight") and scale_key(key) not in tensors
    ]
    if unscaled:
        more = f" and {len(unscaled) - 1} more" if len(unscaled) > 1 else ""
        raise CheckpointError(
            f"{name} is scaled fp8, but has no scale for `{unscaled[0]}`{more}.",
            "Expected one scale for each linear layer in fp8.", "Convert the original bf16 file again.",
        )


def _scale(key: str, tensors: StateDict, name: str) -> tuple[str, Tensor | None]:
    """An entry as it is to be; a scale as a float32 scalar, or None where the layer needs none."""
    value = tensors[key]
    if not key.endswith(SCALE):
        return key, value
    weight = tensors.get(key.removesuffix(SCALE) + ".weight")
    number = value.float().flatten()
    if number.numel() != 1 or not number.isfinite():
        what = f"{number.numel()} scales" if number.numel() != 1 else f"the scale {number.item()}"
        raise CheckpointError(
            f"{name} has {what} for `{key.removesuffix(SCALE)}`.", "Expected one finite scale for each layer.",
            "The file is damaged or of a format that we do not read: convert the original bf16 file again.",
        )
    # ComfyUI 0.3.75 gives the layers that it does not scale a scale of 1 when it saves.
    if weight is not None and weight.dtype not in FP8 and number.item() == 1:
        return key, None
    return key, number.reshape(())


def unscaled(tensors: StateDict, dtype: torch.dtype) -> StateDict:
    """The tensors of `normalise` with every scaled layer multiplied out, in `dtype`."""
    layers = set(scaled_layers(tensors))
    result = {}
    for key, value in tensors.items():
        layer, _, last = key.rpartition(".")
        if layer in layers and last == "weight":
            result[key] = dequantize(value, tensors[layer + SCALE]).to(dtype)
        elif not key.endswith(SCALE):
            result[key] = value
    return result


def held_by(device: torch.device | str, tensors: StateDict, name: str) -> StateDict:
    """The tensors of `normalise` in types that a device can hold: bf16 for fp8 where it has none, said in the log."""
    is_fp8 = {key for key, value in tensors.items() if value.dtype in FP8}
    if torch.device(device).type not in DEVICES_WITHOUT_FP8 or not is_fp8:
        return tensors
    logger.warning("%s is kept in bf16: the device %s cannot hold fp8.", name, device)
    return {
        key: value.to(torch.bfloat16) if key in is_fp8 else value
        for key, value in unscaled(tensors, torch.bfloat16).items()
    }
