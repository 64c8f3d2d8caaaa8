"""From a transformer's file to ComfyUI's MODEL: `comfy.sd.load_diffusion_model` for a model it does not know."""

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ..hunyuan_foley_core import checkpoint
from .comfy_model import FoleyModelConfig
from .prepared_cache import with_prepared_cache

WEIGHT_DTYPES = {
    "default": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}

Tensors = dict[str, torch.Tensor]


def load_foley_model(path: str, weight_dtype: str = "default", disable_dynamic: bool = False):
    """A ModelPatcher around a `FoleyModel`.

    Args:
        weight_dtype: a key of `WEIGHT_DTYPES`, how the weights are kept in memory.
        disable_dynamic: on versions with dynamic VRAM, use the classic patcher; ComfyUI asks where a node needs one.

    Raises:
        CheckpointError: the file is missing, damaged, or something else.
    """
    name, component = Path(path).name, checkpoint.TRANSFORMER
    tensors, config = checkpoint.read_state_dict(path)
    tensors = checkpoint.extract(component, tensors, name)
    model_config = FoleyModelConfig(component.config(tensors, config).to_dict())
    chosen = WEIGHT_DTYPES[weight_dtype]
    stored, computed = _choose_dtypes(tensors, chosen)
    model_config.set_inference_dtype(stored, computed)

    model = model_config.get_model(tensors)
    checkpoint.check_fit(component, model.diffusion_model.state_dict(), tensors, name)
    patcher = _patcher_class(disable_dynamic)(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    # A tensor of the file is a view of the file on disk. Dynamic VRAM makes copies of its own; otherwise the model must
    # not depend on the file staying as it is.
    is_dynamic = getattr(patcher, "is_dynamic", bool)()
    model.load_model_weights(_store(tensors, stored, chosen, copy=not is_dynamic))
    if not is_dynamic:
        model.to(patcher.offload_device)
    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "foley", with_prepared_cache)
    # How newer versions make a classic patcher, or one for another device, of the same file.
    patcher.cached_patcher_init = (load_foley_model, (path, weight_dtype))
    return patcher


def _patcher_class(disable_dynamic: bool):
    """`CoreModelPatcher`, where it exists, is rebound when ComfyUI starts, so it is looked up at each call."""
    classic = comfy.model_patcher.ModelPatcher
    return classic if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", classic)


def _choose_dtypes(tensors: Tensors, chosen: torch.dtype | None) -> tuple[torch.dtype, torch.dtype | None]:
    """How to store the weights, and in what to compute (None: as stored).

    Without a choice, two bytes or less stay as in the file, on a CPU too; only float32 is left to ComfyUI's rule.
    A file that happens to be float16 is not computed in float16: that is for those who choose it.
    """
    management, supported = comfy.model_management, FoleyModelConfig.supported_inference_dtypes
    stored = chosen or comfy.utils.weight_dtype(tensors)
    if stored == torch.float32:
        parameters = comfy.utils.calculate_parameters(tensors)
        stored = management.unet_dtype(model_params=parameters, supported_dtypes=supported, weight_dtype=stored)
    like = None if chosen is None and stored == torch.float16 else stored
    return stored, management.unet_manual_cast(like, management.get_torch_device(), supported)


def _store(tensors: Tensors, stored: torch.dtype, chosen: torch.dtype | None, copy: bool) -> Tensors:
    """The tensors in the types to keep them in. This is when a file is really read, so it shows progress."""
    bar, kept = comfy.utils.ProgressBar(len(tensors)), {}
    for key, tensor in tensors.items():
        kept[key] = tensor.to(_storage_dtype(key, tensor, stored, chosen), copy=copy)
        bar.update(1)
    return kept


def _storage_dtype(key: str, tensor: torch.Tensor, stored: torch.dtype, chosen: torch.dtype | None) -> torch.dtype:
    """One type for all, unless that is fp8: it only serves the matrices of the blocks, nearly all of the weights."""
    if stored.itemsize > 1:
        return stored
    is_block_matrix = tensor.ndim >= 2 and key.startswith(("triple_blocks.", "single_blocks."))
    return chosen if chosen is not None and is_block_matrix else tensor.dtype
