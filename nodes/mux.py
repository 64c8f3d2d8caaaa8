"""Sound back onto the picture."""

import dataclasses
import os
import uuid
from contextlib import contextmanager

import comfy.utils
import folder_paths
from comfy_api.v0_0_2 import InputImpl, io

from ..hunyuan_foley_core import media
from ..hunyuan_foley_core.errors import InputError
from .audio import require_audio
from .messages import tell
from .sockets import CATEGORY
from .video_source import components_of, file_of

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
            description="Puts sound onto a video. A file's picture is copied untouched; the sound is cut or padded.",
            inputs=[
                io.Video.Input("video", tooltip="The picture, and the original sound when mixing."),
                io.Audio.Input("audio", tooltip="The new sound; of a batch the first."),
                io.Combo.Input(
                    "mode", options=["replace", "mix"], default="replace",
                    tooltip="replace: only the new sound. mix: on top of the video's own sound, which it must have.",
                ),
                io.Float.Input("gain_db", default=0.0, **gain, tooltip="Gain of the new sound in dB, -60 to 60."),
                io.Float.Input(
                    "original_gain_db", default=0.0, **gain,
                    tooltip="Gain of the video's own sound in dB, -60 to 60, when mixing.",
                ),
                io.Float.Input(
                    "offset", default=0.0, min=-MAX_OFFSET, max=MAX_OFFSET, step=0.01,
                    tooltip="Seconds the new sound starts after the picture, -600 to 600; below 0 cuts its start.",
                ),
            ],
            outputs=[io.Video.Output(tooltip="The video with the sound, for Save Video.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, video, audio: dict | None, mode: str, gain_db: float, original_gain_db: float, offset: float
    ) -> io.NodeOutput:
        sound, report_to = require_audio(audio), cls.hidden.unique_id
        waveform, sample_rate = sound["waveform"][0], sound["sample_rate"]
        levels = dict(mode=mode, gain_db=gain_db, original_gain_db=original_gain_db, offset=offset)
        components = components_of(video)
        if components is not None:
            return io.NodeOutput(_onto_components(components, waveform, sample_rate, **levels))
        path, warnings = _onto_file(video, waveform, sample_rate, **levels)
        return io.NodeOutput(InputImpl.VideoFromFile(path), ui=tell(report_to, warnings))


def _onto_file(video, waveform, sample_rate: int, **levels) -> tuple[str, list[str]]:
    """Path of the new file, in ComfyUI's folder for temporary files, and what to tell the user."""
    bar = comfy.utils.ProgressBar(1)
    with whole_file(video) as source:
        path = temporary_path(media.suffix_for(source))
        report = media.mux(source, waveform, sample_rate, path, callback=bar.update_absolute, **levels)
    return path, report.warnings


@contextmanager
def whole_file(video):
    """The file of a VIDEO; of a trimmed one a copy of what is left, for as long as the block lasts."""
    file = file_of(video)
    if not file.is_trimmed:
        yield file.source
        return
    # Copied pictures can only start at a key frame; cutting elsewhere is ComfyUI's business.
    source = temporary_path(media.suffix_for(file.source))
    try:
        video.save_to(source)
        yield source
    finally:
        if os.path.exists(source):
            os.remove(source)


def temporary_path(suffix: str) -> str:
    folder = folder_paths.get_temp_directory()
    os.makedirs(folder, exist_ok=True)
    return os.path.join(folder, f"foley_{uuid.uuid4().hex}{suffix}")


def _onto_components(components, waveform, sample_rate: int, **levels):
    """A VIDEO in memory with another sound track."""
    track = mixdown_for_components(components, waveform, sample_rate, mix=media.Mix(**levels))
    return with_track(components, track)


def mixdown_for_components(components, waveform, sample_rate: int, **wanted) -> media.Track:
    if not components.frame_rate > 0:
        raise InputError(
            f"The video has a frame rate of {components.frame_rate}.", "Expected a number above 0.",
            "Set the rate where the video is made.",
        )
    original = components.audio
    return media.mixdown(
        waveform, sample_rate, float(len(components.images) / components.frame_rate),
        original=original and (original["waveform"][0], original["sample_rate"]), **wanted,
    )


def with_track(components, track: media.Track):
    return InputImpl.VideoFromComponents(dataclasses.replace(components, audio=audio_of(track)))


def audio_of(track: media.Track) -> dict:
    """The AUDIO of a finished track."""
    return {"waveform": track.waveform[None], "sample_rate": track.sample_rate}
