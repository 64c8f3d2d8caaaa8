"""A picture of a clip over time."""

import math

import numpy as np
import torch
from comfy_api.v0_0_2 import io, ui

from ..hunyuan_foley_core import media
from ..hunyuan_foley_core.timed_prompts import parse
from ..hunyuan_foley_core.timeline import draw_timeline, spans_of
from .messages import show
from .sockets import CATEGORY, FoleyVideoIO
from .video_source import chosen_frames


class FoleyTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyTimeline",
            display_name="Foley Timeline",
            category=CATEGORY,
            description="Draws a clip over time: pictures, how much moves, scenes, windows and prompts, the waveform with the "
            "onsets that are heard in it, and its spectrogram. Connect a video, a sound, or both.",
            inputs=[
                io.Video.Input("video", optional=True, tooltip="Read as a stream, of any length; a trim is honoured."),
                io.Audio.Input("audio", optional=True, tooltip="The sound to show; of a batch the first."),
                FoleyVideoIO.Input(
                    "encoded", optional=True,
                    tooltip="From Encode Video: shows the scenes and windows that the sound is made in.",
                ),
                io.String.Input(
                    "timed_prompts", multiline=True, default="", optional=True,
                    tooltip="The text of Timed Prompts, to show which prompt holds when.",
                ),
                io.Int.Input(
                    "width", default=1600, min=640, max=8192, step=16, tooltip="Of the picture in pixels, 640 to 8192."
                ),
                io.String.Input("title", default="", tooltip="A line of text above the picture; empty for none."),
            ],
            outputs=[io.Image.Output(display_name="timeline", tooltip="The drawing; it is also shown on the node.")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, width: int, title: str, video=None, audio=None, encoded=None, timed_prompts: str = "") -> io.NodeOutput:
        report, frames, seconds = media.DecodeReport(), None, None
        if video is not None:
            frames, seconds = chosen_frames(video, None, 0.0, math.inf, report)
        sound = audio and (audio["waveform"][0], audio["sample_rate"])
        prompts = parse(timed_prompts) if timed_prompts.strip() else ()
        length = encoded.features.seconds if encoded is not None else _length(seconds, sound)
        spans = spans_of(length, cuts=encoded.features.cuts if encoded is not None else (), prompts=prompts)
        image = draw_timeline(
            frames, seconds if seconds and math.isfinite(seconds) else None, sound=sound, title=title, width=width, **spans
        )
        if report.warnings:
            show(cls.hidden.unique_id, " ".join(report.warnings))
        images = torch.from_numpy(image.astype(np.float32) / 255)[None]
        return io.NodeOutput(images, ui=ui.PreviewImage(images, cls=cls))


def _length(seconds: float | None, sound) -> float | None:
    if seconds and math.isfinite(seconds):
        return seconds
    return sound[0].shape[-1] / sound[1] if sound else None
