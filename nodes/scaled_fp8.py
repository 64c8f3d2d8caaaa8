"""Layers of scaled fp8, kept and computed by what the running ComfyUI has for them.

In 0.3.75 and its neighbours that is a namespace of operations where every linear layer has a scale; later versions
have tensors that carry their scale, and read from a key `<layer>.comfy_quant` which layers have one.
"""

import comfy.ops
import torch

from ..hunyuan_foley_core import quantization

Tensors = dict[str, torch.Tensor]

HAS_OLD_OPERATIONS = hasattr(comfy.ops, "scaled_fp8_ops")


def configure(model_config, dtype: torch.dtype) -> None:
    """Makes a model configuration build its linear layers for scaled `dtype`."""
    if HAS_OLD_OPERATIONS:
        model_config.scaled_fp8 = dtype
    else:
        model_config.quant_config = {"mixed_ops": True}


def loads_onto_meta(model_config) -> bool:
    """Whether layers built without storage take the tensors they are given, rather than move them to where they are."""
    return getattr(model_config, "quant_config", None) is None


def native(tensors: Tensors) -> Tensors:
    """Tensors with `.weight_scale` as ComfyUI's own layers load them."""
    return _with_scale_everywhere(tensors) if HAS_OLD_OPERATIONS else _with_marks(tensors)


def _with_scale_everywhere(tensors: Tensors) -> Tensors:
    scales = {
        key.removesuffix(".weight") + quantization.OLD_SCALE:
            tensors.get(quantization.scale_key(key), torch.ones((), dtype=torch.float32))
        for key, value in tensors.items() if key.endswith(".weight") and value.ndim == 2
    }
    return {key: value for key, value in tensors.items() if not key.endswith(quantization.SCALE)} | scales


def _with_marks(tensors: Tensors) -> Tensors:
    return tensors | {
        layer + quantization.LAYER_MARK: quantization.encoded(quantization.settings(tensors[layer + ".weight"].dtype))
        for layer in quantization.scaled_layers(tensors)
    }
