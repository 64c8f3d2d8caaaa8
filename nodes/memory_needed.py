"""What sampling needs at the least, said when it runs out of memory."""

import comfy.model_management

from ..hunyuan_foley_core.timing import LATENT_RATE
from .context_windows import shape_at_once


def bytes_needed(patcher, latents_shape) -> int:
    """Device memory that sampling latents of this shape [B, C, L] needs with all weights streamed.

    That is the activations of one half of the guidance, for ComfyUI computes the halves apart when memory is short; the
    largest layer, twice, because the next one is on its way while one computes; and what ComfyUI keeps free for others.
    """
    management = comfy.model_management
    layers = (module for module in patcher.model.modules() if not any(module.children()))
    largest = max(map(management.module_size, layers))
    return int(patcher.model.memory_required(list(latents_shape)) + 2 * largest + management.extra_reserved_memory())


def with_memory_needed(executor, noise, *args, **kwargs):
    """OUTER_SAMPLE wrapper: an out-of-memory error says how much was needed, and still is one for ComfyUI."""
    try:
        return executor(noise, *args, **kwargs)
    except comfy.model_management.OOM_EXCEPTION as error:
        reason = str(error)
    # Outside of the except block, which keeps the failed step's tensors alive.
    patcher = executor.class_obj.model_patcher
    shape = shape_at_once(executor.class_obj.model_options, noise.shape)
    needed, free = bytes_needed(patcher, shape), comfy.model_management.get_free_memory(patcher.load_device)
    raise comfy.model_management.OOM_EXCEPTION(
        f"Out of memory while sampling {noise.shape[0]} x {noise.shape[2] / LATENT_RATE:.1f} s of sound. "
        f"This needs about {needed / 1e9:.2f} GB of free device memory even with every weight streamed; "
        f"{free / 1e9:.2f} GB are free now. "
        f"Free memory (other programs, other models), or make shorter or fewer sounds at once. ({reason})"
    )
