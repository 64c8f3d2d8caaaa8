"""Where a video cuts."""

import os
import uuid
from dataclasses import dataclass

import folder_paths
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.errors import MissingConnectionError
from ..hunyuan_foley_core.scenes import THRESHOLD, detect_cuts, parse_cuts
from ..hunyuan_foley_core.timed_prompts import clock
from .messages import tell
from .sockets import CATEGORY, FoleyScenesIO
from .video_source import components_of, file_of

DETECT, TIMES = "detect", "times"


@dataclass(frozen=True)
class Scenes:
    """What the FOLEY_SCENES socket carries: seconds at which scenes begin, ascending, without 0."""

    cuts: tuple[float, ...]


class FoleyScenes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyScenes",
            display_name="Foley Scenes",
            category=CATEGORY,
            description="Tells Encode Video where the video cuts, so that each scene gets its sound as a clip of its own and "
            "none sounds on into the next. A scene shorter than a second joins its neighbour.",
            inputs=[
                io.Combo.Input(
                    "method", options=[DETECT, TIMES], default=DETECT,
                    tooltip="detect: PySceneDetect finds the cuts (pip install scenedetect-headless). times: "
                    "they are those given below.",
                ),
                io.String.Input(
                    "times", multiline=True, default="",
                    tooltip="For times: when scenes begin, as m:ss.s or h:mm:ss, in any order, with commas or lines between.",
                ),
                io.Float.Input(
                    "threshold", default=THRESHOLD, min=0.1, max=100.0, step=0.1,
                    tooltip="For detect: how much more than its neighbours a picture must change to be a cut, 0.1 to 100; "
                    "lower finds more, 3 is PySceneDetect's default.",
                ),
                io.Video.Input("video", optional=True, tooltip="For detect: the video that goes into Encode Video."),
            ],
            outputs=[
                FoleyScenesIO.Output(display_name="scenes", tooltip="For Encode Video."),
                io.String.Output(display_name="cuts", tooltip="The times of the cuts as text, with commas between."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, method: str, times: str, threshold: float, video=None) -> io.NodeOutput:
        cuts = tuple(parse_cuts(times) if method == TIMES else _detect(video, threshold))
        text = ", ".join(map(clock, cuts))
        message = f"{len(cuts) + 1} scenes, with cuts at {text}." if cuts else "One scene: there is no cut."
        return io.NodeOutput(Scenes(cuts), text, ui=tell(cls.hidden.unique_id, [message]))


def _detect(video, threshold: float) -> list[float]:
    if video is None:
        raise MissingConnectionError(
            "No video is connected.", "Expected one to find the cuts in.", f"Connect it, or choose {TIMES}."
        )
    file = file_of(video) if components_of(video) is None else None
    if file is not None and isinstance(file.source, str):
        end = float("inf") if file.duration is None else file.start + file.duration
        return [cut - file.start for cut in detect_cuts(file.source, threshold) if file.start < cut < end]
    folder = folder_paths.get_temp_directory()
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"foley_{uuid.uuid4().hex}.mp4")
    try:
        video.save_to(path)  # which trims it
        return detect_cuts(path, threshold)
    finally:
        if os.path.exists(path):
            os.remove(path)
