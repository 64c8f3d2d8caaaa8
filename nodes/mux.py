"""Sound back onto the picture."""

import os
import uuid

import folder_paths
from comfy_api.v0_0_2 import InputImpl, Types, io

from ..hunyuan_foley_core import media
from .audio import require_audio
from .messages import tell
from .sockets import CATEGORY
from .video_source import FileVideo, components_of, file_of

# Containers that hold the sound we write. The picture of any other goes into Matroska, which takes all of them.
SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm"}
MAX_OFFSET = 600.0
MAX_GAIN_DB = 60.0


class FoleyMuxAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        gain = dict(min=-MAX_GAIN_DB, max=MAX_GAIN_DB, step=0.5)
        return io.Schema(
            node_id="FoleyMuxAudio",
            display_name="Mux Audio",
            category=CATEGORY,
            description="Puts sound onto a video. The picture of a file is copied untouched; the sound is cut or padded to it.",
            inputs=[
                io.Video.Input("video", tooltip="The picture, and the original sound when mixing."),
                io.Audio.Input("audio", tooltip="The new sound; of a batch the first."),
                io.Combo.Input(
                    "mode", options=["replace", "mix"], default="replace",
                    tooltip="replace: only the new sound. mix: the new sound on top of the video's own, which it must have.",
                ),
                io.Float.Input("gain_db", default=0.0, **gain, tooltip="Level of the new sound in dB, -60 to 60; 0 leaves it."),
                io.Float.Input(
                    "original_gain_db", default=0.0, **gain,
                    tooltip="Level of the video's own sound in dB, -60 to 60, when mixing.",
                ),
                io.Float.Input(
                    "offset", default=0.0, min=-MAX_OFFSET, max=MAX_OFFSET, step=0.01,
                    tooltip="Seconds by which the new sound starts later than the picture, -600 to 600; below 0 cuts its start.",
                ),
            ],
            outputs=[io.Video.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, video, audio: dict | None, mode: str, gain_db: float, original_gain_db: float, offset: float
    ) -> io.NodeOutput:
        raise NotImplementedError
