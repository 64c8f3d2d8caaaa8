"""Layers: several sounds for one clip, each made by a node of its own, and their mix."""

import torch
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.conditions import BANDWIDTH_TAG, DEFAULT_NEGATIVE_PROMPT
from ..hunyuan_foley_core.layers import LARGEST_GAIN_DB, MAX_LAYERS, mix
from ..hunyuan_foley_core.timing import SAMPLE_RATE
from .audio import require_audio
from .conditioning import TAG_VARIANTS
from .editing import VAECodec, sampling_inputs
from .encode import encode_prompts
from .latent import FoleyEmptyLatent
from .sampler import sample_latents
from .sockets import CATEGORY, FoleyEncodersIO, FoleyVideoIO

NUMBERS = range(1, MAX_LAYERS + 1)


class FoleyLayer(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyLayer",
            display_name="Foley Layer",
            category=CATEGORY,
            description="One of the sounds of a clip, as a stem: what is done, where it is, what is heard from outside. "
            "It is made again only when something on this node changes.",
            inputs=[
                io.Model.Input("model", tooltip="From Load Foley Model, with any LoRA or patch in between."),
                FoleyEncodersIO.Input("encoders", tooltip="From Load Foley Encoders."),
                io.Vae.Input("vae", tooltip="From Load Foley VAE."),
                io.String.Input("prompt", multiline=True, default="", tooltip="What this layer sounds like, in English."),
                io.String.Input(
                    "negative_prompt", multiline=True, default=DEFAULT_NEGATIVE_PROMPT,
                    tooltip="What this layer should not be like. Used where cfg is above 1.",
                ),
                io.Boolean.Input(
                    "video_guided", default=True,
                    tooltip="On: made to the picture, if one is connected. Off: from the words alone, as for rain.",
                ),
                io.Float.Input(
                    "seconds", default=8.0, min=0.1, max=600.0, step=0.1,
                    tooltip="Length in seconds, 0.1 to 600. Not used when a video is connected.",
                ),
                *sampling_inputs(),
                io.Combo.Input(
                    "bandwidth_tag", options=list(TAG_VARIANTS), default=BANDWIDTH_TAG,
                    tooltip="high-quality asks for sound up to the highest frequencies; none does not.",
                ),
                FoleyVideoIO.Input("video", optional=True, tooltip="From Encode Video: the picture, and the length."),
            ],
            outputs=[io.Audio.Output(display_name="stem", tooltip="The sound of this layer alone: 48 kHz, one channel.")],
        )

    @classmethod
    def execute(
        cls, model, encoders, vae, prompt, negative_prompt, video_guided, seconds, bandwidth_tag, video=None, **how
    ) -> io.NodeOutput:
        seen = video if video_guided else None
        codec = VAECodec(vae, seen.features.cuts if seen is not None else ())
        pair = encode_prompts(encoders, prompt, negative_prompt, bandwidth_tag, seen)
        latent = FoleyEmptyLatent.execute(seconds, 1, video).args[0]
        latents = sample_latents(model, *pair, latent, **how)["samples"]
        return io.NodeOutput({"waveform": codec.decode(latents), "sample_rate": SAMPLE_RATE})


class FoleyLayerMix(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyLayerMix",
            display_name="Foley Layer Mix",
            category=CATEGORY,
            description="Adds up to eight layers at their levels. Nothing is generated here: levels and mutes are instant. "
            "Silence follows a layer that is shorter than the others; one channel is heard in all of the others'.",
            inputs=[
                *(
                    io.Audio.Input(
                        f"layer_{number}", optional=True,
                        tooltip="A stem from Foley Layer, or any sound; of a batch the first (see Foley Pick Take).",
                    )
                    for number in NUMBERS
                ),
                *(widget for number in NUMBERS for widget in _level_inputs(number)),
            ],
            outputs=[
                io.Audio.Output(display_name="mix", tooltip="All layers together at their levels, at the highest sample rate."),
                io.Audio.Output(
                    display_name="stems", tooltip="The layers at their levels as a batch, which adds up to the mix."
                ),
            ],
        )

    @classmethod
    def execute(cls, **inputs) -> io.NodeOutput:
        used = [number for number in NUMBERS if inputs.get(f"layer_{number}") is not None]
        sounds = [require_audio(inputs[f"layer_{number}"]) for number in used]
        mixed, stems, rate = mix(
            [sound["waveform"][0] for sound in sounds], [sound["sample_rate"] for sound in sounds],
            [inputs[f"gain_{number}"] for number in used], [inputs[f"mute_{number}"] for number in used],
        )
        return io.NodeOutput(_audio(mixed[None], rate), _audio(stems, rate))


def _level_inputs(number: int) -> list:
    return [
        io.Float.Input(
            f"gain_{number}", default=0.0, min=-LARGEST_GAIN_DB, max=LARGEST_GAIN_DB, step=0.5,
            tooltip=f"Level of layer {number} in dB, -60 to 60; 0 leaves it as made.",
        ),
        io.Boolean.Input(f"mute_{number}", default=False, tooltip=f"On: layer {number} is silent in the mix."),
    ]


def _audio(waveform: torch.Tensor, sample_rate: int) -> dict:
    return {"waveform": waveform, "sample_rate": sample_rate}
