"""From ComfyUI's VIDEO and IMAGE to what the core reads: a file with its trim, or pictures in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

from comfy_api.v0_0_2 import InputImpl

from ..hunyuan_foley_core import media
from ..hunyuan_foley_core.errors import InputError


@dataclass(frozen=True)
class FileVideo:
    """A VIDEO that lies in a file, or in memory as a file would.

    Attributes:
        start, duration: the part a Video Slice node left, in seconds of the file; duration None is to the end.
    """

    source: str | BytesIO
    start: float = 0.0
    duration: float | None = None

    @property
    def is_trimmed(self) -> bool:
        return self.start > 0 or self.duration is not None


def components_of(video):
    """Pictures, sound and rate of a VIDEO that some node put together in memory; None if it is a file."""
    return video.get_components() if isinstance(video, InputImpl.VideoFromComponents) else None


def file_of(video) -> FileVideo:
    # The source is the whole file even when the VIDEO is trimmed.
    source = video.get_stream_source()
    start, duration = _trim_window(video, source)
    return FileVideo(source, start, duration or None)


def _trim_window(video, source) -> tuple[float, float]:
    """(start, duration) in seconds, duration 0 for no end."""
    if hasattr(video, "get_active_trim_window"):
        return video.get_active_trim_window()
    # The versions between the first Video Slice and that method.
    start = float(getattr(video, "_VideoFromFile__start_time", 0) or 0)
    if start < 0:
        start = max((media.probe(source).duration or 0) + start, 0.0)
    return start, float(getattr(video, "_VideoFromFile__duration", 0) or 0)


def chosen_frames(
    video, images, frame_rate: float, max_seconds: float, report: media.DecodeReport
) -> tuple[Iterator[media.SelectedFrame], float]:
    """The frames the encoders see, as a stream, and about how many seconds they span.

    Args:
        video: VIDEO or None; images: IMAGE [N, H, W, 3 or 4] at `frame_rate`, or None. One of the two.
        report: receives the warnings of a video file.
    """
    if (video is None) == (images is None):
        raise InputError(
            "Neither VIDEO nor IMAGE is connected." if video is None else "Both VIDEO and IMAGE are connected.",
            "Expected one of the two.",
            "Connect a video, or the pictures of a generator with their frame rate.",
        )
    components = components_of(video) if video is not None else None
    if components is not None:
        images, frame_rate = components.images, components.frame_rate
    if images is not None:
        frames = media.frames_from_images(images, frame_rate, max_seconds)
        return frames, min(max_seconds, float(len(images) / frame_rate))
    file = file_of(video)
    length = file.duration or (media.probe(file.source).duration or max_seconds) - file.start
    frames = media.stream_frames(
        file.source, start=file.start, duration=file.duration, max_seconds=max_seconds, report=report
    )
    return frames, min(max_seconds, length)
