"""The DAC-VAE as ComfyUI's VAE: memory management, device and layouts as for any other, the work done by the core."""

import logging
from collections.abc import Callable
from contextlib import contextmanager

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch

from ..hunyuan_foley_core import checkpoint
from ..hunyuan_foley_core.timing import SAMPLE_RATE
from ..hunyuan_foley_core.vae.dac import CHUNK_FRAMES

MIN_CHUNK_FRAMES = 16

logger = logging.getLogger(__name__)


@contextmanager
def _without_log(text: str):
    """Drops messages on the root logger that contain `text`."""

    def wanted(record):
        return text not in record.getMessage()

    logging.getLogger().addFilter(wanted)
    try:
        yield
    finally:
        logging.getLogger().removeFilter(wanted)


class FoleyVAE(comfy.sd.VAE):
    """Decodes [B, C, L] to [B, N, 1] and encodes [B, N, channels] to [B, C, L], the layouts of ComfyUI's audio VAEs.

    Long sound is done in chunks that overlap exactly; the tiled calls are the same, because there is nothing to blend.
    """

    def __init__(self, path: str):
        # With nothing to load, the parent sets every default of the running version, says so, and stops.
        with _without_log("No VAE weights detected"):
            super().__init__(sd={})
        model = checkpoint.load_vae(path, ops=comfy.ops.manual_cast)
        management, hop = comfy.model_management, model.config.hop
        self.first_stage_model = model
        self.latent_channels, self.latent_dim, self.output_channels = model.config.latent_channels, 1, 1
        self.upscale_ratio = self.downscale_ratio = hop
        self.audio_sample_rate = self.audio_sample_rate_output = SAMPLE_RATE
        self.process_input = self.process_output = lambda audio: audio
        self.working_dtypes = [torch.float32]
        # Its activations have parameters but are no layers of ComfyUI's, so a partial load would leave them behind.
        self.disable_offload = True
        self.device = management.vae_device()
        self.output_device = management.intermediate_device()
        self.vae_dtype = management.vae_dtype(self.device, self.working_dtypes)
        model.to(self.vae_dtype)
        self.memory_used_decode = lambda shape, dtype: model.decode_memory(shape[2], management.dtype_size(dtype))
        self.memory_used_encode = lambda shape, dtype: model.encode_memory(shape[2], management.dtype_size(dtype))
        self.patcher = comfy.model_patcher.ModelPatcher(
            model, load_device=self.device, offload_device=management.vae_offload_device()
        )
        self.model_size()

    def decode(self, samples_in, vae_options={}):
        """[B, C, L] -> float32 [B, L * hop, 1] in -1..1."""
        memory = self.memory_used_decode(samples_in.shape, self.vae_dtype)
        return self._in_chunks(self.first_stage_model.decode, samples_in, memory).movedim(1, -1)

    def encode(self, pixel_samples):
        """[B, N, channels] at 48 kHz -> float32 [B, C, ceil(N / hop)], the mean; channels are mixed to one."""
        mono = pixel_samples.movedim(-1, 1).mean(dim=1, keepdim=True)
        memory = self.memory_used_encode(mono.shape, self.vae_dtype)
        mean, _ = self._in_chunks(self.first_stage_model.encode, mono, memory)
        return mean

    def decode_tiled(self, samples, **_):
        return self.decode(samples)

    def encode_tiled(self, pixel_samples, **_):
        return self.encode(pixel_samples)

    def _in_chunks(self, function: Callable, signal: torch.Tensor, memory: int):
        """`function` over the signal, with progress; in smaller chunks when memory runs out."""
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)
        chunk = CHUNK_FRAMES
        while True:
            bar = comfy.utils.ProgressBar(1)
            try:
                return function(
                    signal, chunk_frames=chunk, callback=bar.update_absolute,
                    device=self.device, dtype=self.vae_dtype, output_device=self.output_device,
                )
            except comfy.model_management.OOM_EXCEPTION:
                if chunk <= MIN_CHUNK_FRAMES:
                    raise
            # Outside of the except block, which keeps the failed attempt's tensors alive.
            chunk = max(MIN_CHUNK_FRAMES, chunk // 2)
            logger.warning("Out of memory in the DAC-VAE; trying again with chunks of %d latent frames.", chunk)
            comfy.model_management.soft_empty_cache()
