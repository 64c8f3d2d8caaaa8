"""From a transformer's file to ComfyUI's MODEL: `comfy.sd.load_diffusion_model` for a model it does not know."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.utils
import torch
from comfy.patcher_extension import WrappersMP

from ..hunyuan_foley_core import checkpoint, quantization
from . import scaled_fp8
from .comfy_model import FoleyModelConfig
from .context_windows import with_memory_of_a_window, with_scenes_and_times
from .memory_needed import with_memory_needed
from .prepared_cache import with_prepared_cache

WEIGHT_DTYPES = {
    "default": None,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}

Tensors = dict[str, torch.Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Storage:
    """How weights are kept and computed.

    Attributes:
        dtype: of the model as a whole.
        cast: what to bring tensors to; None: they stay as in the file.
        computed: what to compute in; None: as stored.
        scaled: whether layers keep their scales.
    """

    dtype: torch.dtype
    cast: torch.dtype | None
    computed: torch.dtype | None
    scaled: bool


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
    network = checkpoint.skeleton(component, tensors, config, name=name)
    model_config = FoleyModelConfig(network.config.to_dict())
    storage = _choose_storage(tensors, WEIGHT_DTYPES[weight_dtype], name)
    model_config.set_inference_dtype(storage.dtype, storage.computed)
    if storage.scaled:
        scaled_fp8.configure(model_config, storage.dtype)

    model = model_config.get_model(tensors)
    patcher = _patcher_class(disable_dynamic)(
        model,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )
    # A tensor of the file is a view of the file on disk. Dynamic VRAM makes copies of its own; otherwise the model must
    # not depend on the file staying as it is.
    is_dynamic = getattr(patcher, "is_dynamic", bool)()
    stored = _store(tensors, storage, copy=not is_dynamic)
    model.load_model_weights(scaled_fp8.native(stored) if storage.scaled else stored)
    model.diffusion_model.windows = network.windows
    if not is_dynamic:
        model.to(patcher.offload_device)
    for wrapper in (with_memory_needed, with_prepared_cache, with_scenes_and_times):
        patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "foley", wrapper)
    patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "foley", with_memory_of_a_window)
    # How newer versions make a classic patcher, or one for another device, of the same file.
    patcher.cached_patcher_init = (load_foley_model, (path, weight_dtype))
    return patcher


def _patcher_class(disable_dynamic: bool):
    """`CoreModelPatcher`, where it exists, is rebound when ComfyUI starts, so it is looked up at each call."""
    classic = comfy.model_patcher.ModelPatcher
    return classic if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", classic)


def _choose_storage(tensors: Tensors, chosen: torch.dtype | None, name: str) -> Storage:
    """What to do with a file's tensors on this device.

    Without a choice, two bytes or less stay as in the file, on a CPU too; only float32 is left to ComfyUI's rule. fp8
    is never made another fp8.
    """
    fp8 = next((value.dtype for value in tensors.values() if value.dtype in quantization.FP8), None)
    if fp8 is not None and chosen in quantization.FP8:
        if chosen != fp8:
            _say_once(f"{name} holds {_short(fp8)} and stays as it is: {_short(chosen)} would round it a second time.")
        chosen = None
    cast = chosen or (None if fp8 is not None else _default_dtype(tensors))
    cast = _nearest(cast, cast or fp8, name)
    is_scaled = cast is None and bool(quantization.scaled_layers(tensors))
    return Storage(cast or fp8, cast, _computed(cast or fp8, chosen), is_scaled)


def _default_dtype(tensors: Tensors) -> torch.dtype:
    stored = comfy.utils.weight_dtype(tensors)
    if stored != torch.float32:
        return stored
    return comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(tensors),
        supported_dtypes=FoleyModelConfig.supported_inference_dtypes, weight_dtype=stored,
    )


def _nearest(cast: torch.dtype | None, stored: torch.dtype, name: str) -> torch.dtype | None:
    """`cast`, or the nearest to `stored` that this device can hold: Apple's have no fp8, DirectML no bf16."""
    management = comfy.model_management
    device = management.get_torch_device()
    if management.supports_cast(device, stored):
        return cast
    nearest = next(dtype for dtype in (torch.bfloat16, torch.float16) if management.supports_cast(device, dtype))
    _say_once(f"{name} is kept in {_short(nearest)}: this device cannot hold {_short(stored)}.")
    return nearest


def _computed(stored: torch.dtype, chosen: torch.dtype | None) -> torch.dtype | None:
    """What to compute in; None: as stored. A file that happens to be float16 is not computed in float16: that is for
    those who choose it.
    """
    management = comfy.model_management
    like = None if chosen is None and stored == torch.float16 else stored
    computed = management.unet_manual_cast(
        like, management.get_torch_device(), FoleyModelConfig.supported_inference_dtypes
    )
    if chosen == torch.float16 and computed is not None:
        _say_once(f"Weights in float16 are computed in {_short(computed)}: this device has no fast float16.")
    return computed


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@lru_cache
def _say_once(message: str) -> None:
    logger.info(message)


def _store(tensors: Tensors, storage: Storage, copy: bool) -> Tensors:
    """The tensors in the types to keep them in. This is when a file is really read, so it shows progress."""
    bar, kept = comfy.utils.ProgressBar(len(tensors)), {}
    for key, tensor in tensors.items():
        scale = tensors.get(quantization.scale_key(key)) if key.endswith(".weight") else None
        if scale is not None and not storage.scaled:
            tensor = quantization.dequantize(tensor, scale)
        if storage.scaled or not key.endswith(quantization.SCALE):
            kept[key] = tensor.to(_storage_dtype(key, tensor, storage.cast), copy=copy)
        bar.update(1)
    return kept


def _storage_dtype(key: str, tensor: torch.Tensor, cast: torch.dtype | None) -> torch.dtype:
    """One type for all, unless that is fp8, which serves only some."""
    if cast is None or cast.itemsize == 1 and not quantization.serves(key, tensor.ndim):
        return tensor.dtype
    return cast
