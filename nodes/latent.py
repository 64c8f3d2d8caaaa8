"""Empty latents: the length of the sound to come."""

import comfy.model_management
import torch
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.timing import latent_frames
from .conditioning import CUTS_KEY, PICTURE_KEY
from .sockets import CATEGORY, FoleyVideoIO

# Of the released models. Samplers repeat an empty latent to the channels of the model they run.
LATENT_CHANNELS = 128


class FoleyEmptyLatent(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyEmptyLatent",
            display_name="Empty Foley Latent",
            category=CATEGORY,
            description="Sets the length of the sound: that of the video, or seconds where there is none.",
            inputs=[
                io.Float.Input(
                    "seconds", default=8.0, min=0.1, max=3600.0, step=0.1,
                    tooltip="Length of the sound in seconds, 0.1 to 3600; long sound is made in windows. Not used when a "
                    "video is connected.",
                ),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Sounds to make at once, 1 to 64."),
                FoleyVideoIO.Input("video", optional=True, tooltip="From Encode Video: sound as long as the picture."),
            ],
            outputs=[io.Latent.Output(tooltip="Empty latents of that length, for a sampler: 50 latent frames a second.")],
        )

    @classmethod
    def execute(cls, seconds: float, batch_size: int, video=None) -> io.NodeOutput:
        frames = latent_frames(seconds if video is None else video.features.seconds)
        device = comfy.model_management.intermediate_device()
        samples = torch.zeros([batch_size, LATENT_CHANNELS, frames], device=device)
        latent = {"samples": samples, "type": "audio"}
        if video is not None and video.seconds is not None:
            latent[PICTURE_KEY] = video.seconds  # for Foley Seamless Loop
        if video is not None and video.features.cuts:
            latent[CUTS_KEY] = video.features.cuts  # for DAC Decode, where samplers carry it
        return io.NodeOutput(latent)
