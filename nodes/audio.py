"""Latents to sound and back."""

from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core import media
from ..hunyuan_foley_core.errors import NoSoundError
from ..hunyuan_foley_core.scenes import decode_scenes
from ..hunyuan_foley_core.timing import SAMPLE_RATE
from .conditioning import CUTS_KEY
from .sockets import CATEGORY, require_foley_vae


class FoleyDACDecode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyDACDecode",
            display_name="DAC Decode",
            category=CATEGORY,
            description="Turns latents into 48 kHz mono sound, 960 samples for each latent frame, the level untouched.",
            inputs=[
                io.Latent.Input("samples", tooltip="Latents from a sampler or from DAC Encode."),
                io.Vae.Input("vae", tooltip="From Load Foley VAE."),
            ],
            outputs=[io.Audio.Output(tooltip="48 kHz, one channel; of a batch of latents a batch of sounds.")],
        )

    @classmethod
    def execute(cls, samples: dict, vae) -> io.NodeOutput:
        require_foley_vae(vae)
        waveform = decode_scenes(
            lambda latents: vae.decode(latents).movedim(-1, 1), samples["samples"], samples.get(CUTS_KEY, ())
        )
        return io.NodeOutput({"waveform": waveform.float().cpu(), "sample_rate": SAMPLE_RATE})


class FoleyDACEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyDACEncode",
            display_name="DAC Encode",
            category=CATEGORY,
            description="Turns any sound into latents: resampled to 48 kHz and mixed to one channel first.",
            inputs=[
                io.Audio.Input("audio", tooltip="Any sample rate and number of channels."),
                io.Vae.Input("vae", tooltip="From Load Foley VAE."),
            ],
            outputs=[io.Latent.Output(tooltip="50 latent frames a second, as long as the sound.")],
        )

    @classmethod
    def execute(cls, audio: dict | None, vae) -> io.NodeOutput:
        require_foley_vae(vae)
        mono = require_audio(audio)["waveform"].mean(dim=1, keepdim=True)
        mono = media.resample(mono, audio["sample_rate"], SAMPLE_RATE)
        return io.NodeOutput({"samples": vae.encode(mono.movedim(1, -1)), "type": "audio"})


def require_audio(audio: dict | None) -> dict:
    """The AUDIO itself; stock nodes hand out None for a video without sound."""
    if audio is None or audio["waveform"].shape[-1] == 0:
        raise NoSoundError(
            "The connected AUDIO is empty: the video it came from has no sound.", "Expected at least one sample.",
            "Connect another sound.",
        )
    return audio
