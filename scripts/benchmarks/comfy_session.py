"""One process with ComfyUI, one model in it, and as much device memory as a configuration allows."""

import atexit
import importlib
import tempfile
from contextlib import ExitStack
from pathlib import Path

import comfy_inside
import torch
from torch import Tensor

from hunyuan_foley_core.sampling import linear_sigmas
from hunyuan_foley_core.timing import TEXT_TOKENS, ClipTiming

from .plain_sampling import GUIDANCE

GB = 1e9
# ComfyUI keeps this much free of weights: 0.8 GiB to compute in, and 400 MiB for other programs.
KEPT_FREE = 1.28 * GB


class Session:
    """ComfyUI with a Foley model. A process has one at most, and keeps it until it ends.

    Args:
        cap: as a `Configuration` has it.
    """

    def __init__(self, comfyui: Path, cap: int | None, device: torch.device):
        self.device = device
        if device.type == "cuda" and cap:
            pretend_memory(device, int(cap * GB))
        stack = ExitStack()
        atexit.register(stack.close)
        base = stack.enter_context(tempfile.TemporaryDirectory())
        self.comfy = stack.enter_context(comfy_inside.imported(comfyui, Path(base), _options(cap, device)))
        self.keys = importlib.import_module(f"{comfy_inside.PACK}.nodes.comfy_model")

    @torch.inference_mode()
    def load(self, file: Path, share: float) -> None:
        """Loads the transformer.

        Args:
            share: of the weights that stay on the device, where that is a CPU. Elsewhere ComfyUI finds out.
        """
        loading = importlib.import_module(f"{comfy_inside.PACK}.nodes.load_model")
        self.patcher = loading.load_foley_model(str(file))
        if self.device.type == "cpu" and share < 1:
            # ComfyUI would load everything on a CPU.
            self.comfy.model_management.load_models_gpu = lambda *args, **kwargs: None
            # 0 bytes would mean everything, too.
            self.patcher.load(self.device, lowvram_model_memory=max(0.1, share * self.patcher.model_size()))

    @property
    def dtype(self) -> torch.dtype:
        """What is computed in."""
        return self.patcher.model.manual_cast_dtype or self.patcher.model.get_dtype()

    def model(self, compiled: bool, backend="inductor"):
        """The MODEL, behind what TorchCompileModel puts around it if it is to be compiled."""
        if not compiled:
            return self.patcher
        from comfy_api.torch_helpers import set_torch_compile_wrapper

        model = self.patcher.clone()
        set_torch_compile_wrapper(model=model, backend=backend)
        return model

    @torch.inference_mode()
    def sample(self, model, seconds: float, batch: int, steps: int) -> Tensor:
        """Latents [B, C, L] from random features, the same at every call; Euler with guidance, as published."""
        config, counts = self.patcher.model.diffusion_model.config, ClipTiming.from_seconds(seconds)
        generator = torch.Generator().manual_seed(1)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        noise = normal(batch, config.latent_channels, counts.latent_frames)
        seen = {
            self.keys.VISUAL_KEY: normal(1, counts.visual_tokens, config.visual_dim),
            self.keys.SYNC_KEY: normal(1, counts.sync_tokens, config.sync_dim),
        }
        unseen = {self.keys.LENGTHS_KEY: (counts.visual_tokens, counts.sync_tokens)}
        positive, negative = (normal(1, TEXT_TOKENS, config.text_dim) for _ in range(2))
        return self.comfy.sample.sample(
            model, noise, steps, GUIDANCE, "euler", "simple", [[positive, seen]], [[negative, unseen]],
            torch.zeros_like(noise), sigmas=linear_sigmas(steps, 1.0), disable_pbar=True, seed=1,
        )

    def release(self) -> None:
        """Gives the device's memory back, as ComfyUI does."""
        self.comfy.model_management.unload_all_models()
        self.comfy.model_management.soft_empty_cache()


def _options(cap: int | None, device: torch.device) -> list[str]:
    """ComfyUI's command line. The attention is what it takes on NVIDIA's GPUs anyway; on a CPU it takes one that asks
    for free memory, which is slower and cannot be compiled.
    """
    placement = ["--cpu"] if device.type == "cpu" else ["--novram"] if cap == 0 else []
    return ["--use-pytorch-cross-attention", *placement]


def pretend_memory(device: torch.device, size: int) -> None:
    """Lets this process see a GPU with `size` bytes, CUDA's own share included, and allocate no more than that."""
    free, total = torch.cuda.mem_get_info(device)
    taken, real = total - free, torch.cuda.mem_get_info
    torch.cuda.set_per_process_memory_fraction(max(0, size - taken) / total, device)

    def seen(device=None):
        free, total = real(device)
        return max(0, size - (total - free)), size

    torch.cuda.mem_get_info = seen
