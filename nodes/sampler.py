"""Sampling with the model's own schedule, through ComfyUI's samplers."""

import logging

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import latent_preview
import torch
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.sampling import check_finite, linear_sigmas
from .conditioning import AS_ENCODED, TAG_VARIANTS, with_variant
from .context_windows import with_default_windows
from .sockets import CATEGORY, require_foley_model

LINEAR = "linear"
MAX_SEED = 2**64 - 1

logger = logging.getLogger(__name__)


class FoleySampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleySampler",
            display_name="Foley Sampler (MMDiT)",
            category=CATEGORY,
            description="Makes the latents of the sound. The same seed and settings give the same sound.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From Load Foley Model, with any LoRA or patch in between. Long sound and scenes are made "
                    "in windows, as its weights want them; Foley Context Windows sets other lengths.",
                ),
                io.Conditioning.Input("positive", tooltip="From Encode Text: prompt, and picture if there is one."),
                io.Conditioning.Input("negative", tooltip="From Encode Text."),
                io.Latent.Input("latent", tooltip="From Empty Foley Latent; from DAC Encode with denoise below 1."),
                io.Int.Input(
                    "seed", default=0, min=0, max=MAX_SEED, control_after_generate=True,
                    tooltip="Chooses the noise the sound starts from, 0 to 2^64 - 1.",
                ),
                io.Int.Input(
                    "steps", default=50, min=1, max=1000,
                    tooltip="Steps, 1 to 1000; published: 50. Fast: 16 steps of dpmpp_2m with ModelSamplingSD3 at "
                    "shift 5 before this node; quality: 50 of these.",
                ),
                io.Float.Input(
                    "cfg", default=4.5, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance: how strongly to follow prompt and picture, 0 to 100. 4.5 is the published "
                    "setting; 1 does without the negative prompt and takes half the time.",
                ),
                io.Combo.Input(
                    "sampler_name", options=list(comfy.samplers.KSampler.SAMPLERS), default="euler",
                    tooltip="Solver of the sampling equation. euler is the published setting; dpmpp_2m needs fewer steps for "
                    "the same precision.",
                ),
                io.Combo.Input(
                    "scheduler", options=[LINEAR, *comfy.samplers.KSampler.SCHEDULERS], default=LINEAR,
                    tooltip="Spacing of the noise levels; linear, under the model's shift, is the published setting.",
                ),
                io.Float.Input(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="How much of the latent to replace, 0 to 1: 1 makes a new one, less varies the given one.",
                ),
                io.Combo.Input(
                    "bandwidth_tag", options=[AS_ENCODED, *TAG_VARIANTS], default=AS_ENCODED,
                    tooltip="The tag that asks for sound up to the highest frequencies: high-quality adds it to the "
                    "prompt, none leaves it out, as encoded keeps what Encode Text chose. Nothing is encoded again.",
                ),
            ],
            outputs=[io.Latent.Output(tooltip="Latents of the sound, for DAC Decode.")],
        )

    @classmethod
    def execute(
        cls, model, positive, negative, latent, seed, steps, cfg, sampler_name, scheduler, denoise, bandwidth_tag
    ) -> io.NodeOutput:
        return io.NodeOutput(sample_latents(
            model, positive, negative, latent, seed=seed, steps=steps, cfg=cfg, sampler_name=sampler_name,
            scheduler=scheduler, denoise=denoise, bandwidth_tag=bandwidth_tag,
        ))


def sample_latents(
    model, positive, negative, latent: dict, *, seed: int, steps: int, cfg: float, sampler_name: str = "euler",
    scheduler: str = LINEAR, denoise: float = 1.0, bandwidth_tag: str = AS_ENCODED,
) -> dict:
    """A LATENT with sampled latents in place of the given ones; the one way in which this pack's nodes sample.

    Raises:
        InputError: another kind of model, conditioning that does not fit it, or a result that is not finite.
    """
    require_foley_model(model)
    positive, negative = (with_variant(conditioning, bandwidth_tag) for conditioning in (positive, negative))
    model = with_default_windows(model)
    latents = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    sigmas = linear_schedule(model, steps, denoise) if scheduler == LINEAR else None
    samples = comfy.sample.sample(
        model, comfy.sample.prepare_noise(latents, seed, latent.get("batch_index")),
        steps, cfg, sampler_name, "simple" if scheduler == LINEAR else scheduler,
        positive, negative, latents, denoise=denoise, sigmas=sigmas, noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps), disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    check_finite(samples)
    return {**latent, "samples": samples}


def linear_schedule(model, steps: int, denoise: float) -> torch.Tensor:
    """Noise levels from `denoise`'s share of the whole way down to 0, float32 [steps + 1]; empty for a share of 0."""
    if denoise <= 0:
        return torch.empty(0)
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.ModelSamplingDiscreteFlow):
        return linear_sigmas(steps, sampling.shift, denoise)
    # A node put another shift rule in its place.
    whole_way = int(steps / denoise)
    sigmas = torch.tensor([float(sampling.percent_to_sigma(i / whole_way)) for i in range(whole_way + 1)])
    return sigmas[-(steps + 1) :]
