"""From ComfyUI's VIDEO and IMAGE to what the core reads: a file with its trim, or pictures in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO

from comfy_api.v0_0_2 import InputImpl

from ..hunyuan_foley_core import media
from ..hunyuan_foley_core.conditions import FramesBetween
from ..hunyuan_foley_core.errors import MissingConnectionError
from ..hunyuan_foley_core.media.frames import check_rate


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


@dataclass(frozen=True)
class FrameSource:
    """Where the frames that the encoders see come from.

    Attributes:
        between: (start, duration or None for the rest) in seconds of the clip -> its chosen frames, as a stream.
        length: seconds of the clip; None where the file does not tell.
        most: no frame after so many seconds is read; may be infinite.
    """

    between: FramesBetween
    length: float | None
    most: float

    @property
    def seconds(self) -> float:
        """About how many are read; may be infinite."""
        return self.most if self.length is None else min(self.most, self.length)


def frame_source(video, images, frame_rate: float, max_seconds: float, report: media.DecodeReport) -> FrameSource:
    """Frames of a VIDEO or an IMAGE batch, whole or in parts.

    Args:
        video: VIDEO or None; images: IMAGE [N, H, W, 3 or 4] at `frame_rate`, or None. One of the two.
        max_seconds: no frame after this is read.
        report: receives the warnings of a video file.
    """
    if (video is None) == (images is None):
        raise MissingConnectionError(
            "Neither VIDEO nor IMAGE is connected." if video is None else "Both VIDEO and IMAGE are connected.",
            "Expected one of the two.",
            "Connect a video, or the pictures of a generator with their frame rate.",
        )
    components = components_of(video) if video is not None else None
    if components is not None:
        images, frame_rate = components.images, components.frame_rate
    if images is not None:
        return _of_images(images, frame_rate, max_seconds)
    file = file_of(video)
    return FrameSource(partial(_of_file, file, max_seconds, report), _length_of(file), max_seconds)


def _length_of(file: FileVideo) -> float | None:
    whole = media.picture_length(file.source)
    rest = None if whole is None else max(whole - file.start, 0.0)
    return min((seconds for seconds in (rest, file.duration) if seconds is not None), default=None)


def _of_file(file: FileVideo, max_seconds: float, report: media.DecodeReport, start: float, duration: float | None):
    if duration is None and file.duration is not None:
        duration = file.duration - start
    return media.stream_frames(
        file.source, start=file.start + start, duration=duration, max_seconds=max_seconds - start, report=report
    )


def _of_images(images, frame_rate: float, max_seconds: float) -> FrameSource:
    check_rate(frame_rate)

    def between(start: float, duration: float | None):
        end = None if duration is None else round((start + duration) * frame_rate)
        return media.frames_from_images(images[round(start * frame_rate) : end], frame_rate, max_seconds - start)

    return FrameSource(between, float(len(images) / frame_rate), max_seconds)


def chosen_frames(
    video, images, frame_rate: float, max_seconds: float, report: media.DecodeReport
) -> tuple[Iterator[media.SelectedFrame], float]:
    """The frames the encoders see of the whole clip, as a stream, and about how many seconds they span; see `frame_source`."""
    source = frame_source(video, images, frame_rate, max_seconds, report)
    return source.between(0.0, None), source.seconds
