"""The Foley transformer as a model of ComfyUI: latent format, configuration, BaseModel, diffusion model."""

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers

from ..hunyuan_foley_core.config import TransformerConfig
from ..hunyuan_foley_core.errors import InputError, WrongConnectionError
from ..hunyuan_foley_core.model import FoleyTransformer, different_samples
from ..hunyuan_foley_core.timing import ClipTiming
from .block_caller import BlockCaller, compiler_of, kept_out, many_versions
from .kept_conditions import KeptCond
from .prepared_cache import CACHE_KEY
from .scaled_fp8 import loads_onto_meta

# What Encode Text adds to a CONDITIONING beside the text itself.
VISUAL_KEY = "foley_visual"  # [1, V, visual_dim]
SYNC_KEY = "foley_sync"  # [1, S, sync_dim]
LENGTHS_KEY = "foley_lengths"  # (V, S) of the empty features, when there is no picture
SOURCES_KEY = "foley_sources"  # file names by kind of feature, for messages

# ComfyUI reckons 0.01 * bytes per value * this factor in MiB for each frame of each sample. Measured on a CPU at width
# 1536, a step of 400 frames takes 101 to 105 KB a frame in bf16 (a factor of 4.8 to 5.0, batch 8 and 2) and 147 to 165 KB
# in float32 (3.5 to 3.9); the rest is room for a GPU's convolution workspaces and for what a short sound takes more.
MEMORY_FACTOR_PER_WIDTH = 6 / 1536


class FoleyLatents(comfy.latent_formats.LatentFormat):
    """[B, C, L] without scaling; no preview. The number of channels is set from the checkpoint."""

    latent_dimensions = 1


class FoleyDiffusionModel(FoleyTransformer):
    """The core's transformer under ComfyUI's contract for diffusion models."""

    def __init__(self, dtype=None, device=None, operations=None, **unet_config):
        super().__init__(TransformerConfig(**unet_config), ops=operations, dtype=dtype, device=device)
        self.dtype = dtype

    @kept_out
    def forward(
        self, x, timestep, context=None, visual=None, sync=None, control=None, transformer_options={}, **kwargs
    ):
        """Velocity [B, C, L]; every argument in compute dtype and on the compute device."""
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        if not wrappers:
            return self._forward(x, timestep, context, visual, sync, control, transformer_options, **kwargs)
        executor = WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        # EasyCache looks for transformer_options in the last place.
        return executor.execute(x, timestep, context, visual, sync, control, transformer_options, **kwargs)

    def _forward(
        self, x, timestep, context=None, visual=None, sync=None, control=None, transformer_options={}, prepared=None,
        compiler=None, **kwargs,
    ):
        if prepared is None:
            prepared = self.prepare(context, visual, sync, x.shape[-1])
        with many_versions(compiler):
            return self.denoise(
                x, timestep, prepared,
                attention=_attention(transformer_options), call_block=BlockCaller(transformer_options, compiler),
            )


def _attention(transformer_options):
    """ComfyUI's attention of choice, open to the overrides that nodes put into `transformer_options`."""

    def attention(q, k, v):
        return optimized_attention(
            q, k, v, q.shape[1], skip_reshape=True, skip_output_reshape=True, transformer_options=transformer_options
        )

    return attention


def _is_one_time(t, transformer_options, times_may_differ: bool) -> bool:
    """Whether all samples of a step are at one noise level; to look at the levels makes the program wait for a GPU."""
    levels = None if times_may_differ else transformer_options.get("sigmas")  # of the sounds, not yet repeated for guidance
    return len(t) == 1 or (levels is not None and len(levels) == 1) or bool((t == t[0]).all())


class FoleyModel(comfy.model_base.BaseModel):
    """Rectified flow over audio latents, conditioned on text, visual and sync features.

    The diffusion model is built without storage where it can be: `load_model_weights` gives every parameter its tensor.
    """

    def __init__(self, model_config, device=None):
        super().__init__(
            model_config, comfy.model_base.ModelType.FLOW,
            device=torch.device("meta") if loads_onto_meta(model_config) else None, unet_model=FoleyDiffusionModel,
        )
        self.device = device

    def load_model_weights(self, sd, unet_prefix="", assign=True):
        """Gives every parameter its tensor, each in the type it comes in; `sd` has exactly the model's keys."""
        self.diffusion_model.load_state_dict(sd, strict=True, assign=True)
        self.diffusion_model.requires_grad_(False)
        # Newer versions note each parameter's type at construction, and cast to it when they load.
        archive_dtypes = getattr(comfy.model_management, "archive_model_dtypes", None)
        if archive_dtypes is not None:
            archive_dtypes(self.diffusion_model)
        return self

    def extra_conds(self, **kwargs):
        """Conditions of one entry of a CONDITIONING; where it has no picture, the learned empty features.

        Raises:
            InputError: the latents or the features are not of the shapes this model takes.
        """
        noise, text = kwargs["noise"], kwargs.get("cross_attn")
        self._check_latents(noise)
        timing = ClipTiming.from_latent_frames(noise.shape[2])
        visual_tokens, sync_tokens = kwargs.get(LENGTHS_KEY) or (timing.visual_tokens, timing.sync_tokens)
        visual, sync = kwargs.get(VISUAL_KEY), kwargs.get(SYNC_KEY)
        if visual is None:
            visual = self.diffusion_model.empty_visual(visual_tokens)
        if sync is None:
            sync = self.diffusion_model.empty_sync(sync_tokens)
        self._check_widths(text, visual, sync, kwargs.get(SOURCES_KEY) or {})
        # Not CONDCrossAttn for the text, which repeats tokens to a common length: here they have positions.
        # On one device, because entries on different ones are not merged into one batch.
        tensors = {"c_crossattn": text, "visual": visual, "sync": sync}
        return {name: KeptCond(tensor.to(kwargs["device"])) for name, tensor in tensors.items()}

    def _apply_model(
        self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={},
        visual=None, sync=None, **kwargs,
    ):
        """Looks up or computes what no step changes, outside of what TorchCompileModel compiles."""
        cache, given, frames = transformer_options.get(CACHE_KEY), (c_crossattn, visual, sync), x.shape[-1]
        dtype = self.manual_cast_dtype or self.get_dtype()
        c_crossattn, visual, sync = features = tuple(tensor.to(x.device, dtype) for tensor in given)
        # Not among the options, where TorchCompileModel of newer versions does not look for changed shapes.
        prepared = None
        is_constant = cache is not None and self._weights_are_constant()
        if is_constant and _is_one_time(t, transformer_options, cache.times_may_differ):
            prepared = cache.get(given, frames, lambda: self._prepare(features, frames))
        return super()._apply_model(
            x, t, c_concat, c_crossattn, control, transformer_options,
            visual=visual, sync=sync, prepared=prepared, compiler=compiler_of(self.diffusion_model), **kwargs,
        )

    def _prepare(self, features, frames):
        """Conditions for steps that take the whole batch to one noise level; equal samples share the work."""
        first, samples = different_samples(*features)
        prepared = self.diffusion_model.prepare(*(tensor[first] for tensor in features), frames)
        return prepared.of_samples(samples)

    def _weights_are_constant(self) -> bool:
        """Whether no step changes the weights: no training, and no LoRA hooks with their schedules."""
        patcher = self.current_patcher
        return not torch.is_grad_enabled() and not (patcher and (patcher.hook_patches or patcher.current_hooks))

    def _check_latents(self, noise):
        channels = self.latent_format.latent_channels
        if noise.ndim != 3 or noise.shape[1] != channels:
            raise WrongConnectionError(
                f"The latent to sample has the shape {list(noise.shape)}.",
                f"This Foley model takes audio latents [batch, {channels}, frames].",
                "Connect Empty Foley Latent or DAC Encode in place of an image or other audio latent.",
            )

    def _check_widths(self, text, visual, sync, sources):
        sizes = self.diffusion_model.config
        if text is None:
            raise WrongConnectionError(
                "The conditioning carries no text features.", "", "Connect Encode Text (CLAP), for an empty prompt too."
            )
        features, widths = (text, visual, sync), (sizes.text_dim, sizes.visual_dim, sizes.sync_dim)
        for name, tensor, width in zip(("text", "visual", "sync"), features, widths):
            if tensor.shape[-1] != width:
                source = sources.get(name, "another node")
                raise InputError(
                    f"The {name} features, made with `{source}`, are {tensor.shape[-1]} wide.",
                    f"The loaded Foley model reads {name} features {width} wide.",
                    f"Pick the {name} encoder that belongs to this model in Load Foley Encoders.",
                )


class FoleyModelConfig(comfy.supported_models_base.BASE):
    """How ComfyUI sees any size of the model. `unet_config` holds the fields of `TransformerConfig`."""

    unet_extra_config = {}
    sampling_settings = {"shift": 1.0, "multiplier": 1000}
    # The weights were released and used in bfloat16; float16 has not been shown to hold their range.
    supported_inference_dtypes = [torch.bfloat16, torch.float32]
    latent_format = FoleyLatents

    def __init__(self, unet_config):
        super().__init__(unet_config)
        self.latent_format.latent_channels = unet_config["latent_channels"]
        self.memory_usage_factor = MEMORY_FACTOR_PER_WIDTH * unet_config["hidden_size"]

    def get_model(self, state_dict, prefix="", device=None):
        return FoleyModel(self, device=device)

    def model_type(self, state_dict, prefix=""):
        return comfy.model_base.ModelType.FLOW

    def inpaint_model(self):
        return False

    def clip_target(self, state_dict={}):
        return None
