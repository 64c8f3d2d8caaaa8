"""Opening media files: one place for what can be wrong with them, and for the clip's own time."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from ..errors import InputError, MediaError, NoPictureError
from ..timing import MAX_SECONDS

# A playlist or a data reference inside a file must not make us fetch something else.
_READ_OPTIONS = {"protocol_whitelist": "file"}
# Formats with an index, in which seeking lands on a key frame at or before the asked time.
_INDEXED_FORMATS = {"mov", "mp4", "matroska", "webm"}
# Pictures are stored up to this much (in seconds) before they are shown; seek so much earlier than asked.
_SEEK_MARGIN = 1


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of itself.

    Attributes:
        width, height: pixels as shown, after rotation.
        rotation: degrees clockwise that the stored picture is turned by to be shown (0, 90, 180, 270).
        duration: seconds of picture, None if the file does not say.
        average_rate: frames per second, None if the file does not say.
        frames: number of frames, None if the file does not say.
        codec, pixel_format, format: names as in FFmpeg.
        has_audio, sample_rate, audio_channels: of the sound track (None without one).
    """

    width: int
    height: int
    rotation: int
    duration: float | None
    average_rate: Fraction | None
    frames: int | None
    codec: str
    pixel_format: str | None
    format: str
    has_audio: bool
    sample_rate: int | None
    audio_channels: int | None


def name_of(source) -> str:
    """How messages call a source: its file name, or what it is."""
    return Path(source).name if isinstance(source, (str, os.PathLike)) else "The video in memory"


def file_url(path) -> str:
    """A path as FFmpeg takes it: without the prefix a colon in a name is read as the end of a protocol's."""
    return f"file:{Path(path)}"


@contextmanager
def open_source(source) -> Iterator:
    """An open PyAV container of a path or a seekable file-like object (rewound). MediaError if it is no media."""
    if isinstance(source, (str, os.PathLike)):
        if not Path(source).is_file():
            raise MediaError(
                f"There is no file {source}.", "A video or sound file is needed.", "Check the path and its spelling."
            )
        target = file_url(source)
    else:
        source.seek(0)
        target = source
    try:
        container = av.open(target, metadata_errors="replace", options=dict(_READ_OPTIONS))
    except av.error.FFmpegError as error:
        raise MediaError(
            f"{name_of(source)} cannot be opened as video or sound ({error.strerror}).",
            "A complete media file in a format that FFmpeg reads is needed.",
            "It may be cut off, damaged or something else under a media name: play it, or download or export it again.",
        ) from error
    with container:
        yield container


def picture_stream(container, source):
    """The first video stream that is no cover picture. MediaError if there is none or no decoder for it."""
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        kinds = ", ".join(sorted({s.type for s in container.streams})) or "nothing"
        raise NoPictureError(
            f"{name_of(source)} holds no moving picture (found: {kinds}).",
            "A file with a video stream is needed.",
            "Choose a video, or make sound from text alone.",
        )
    if streams[0].codec_context is None:
        raise MediaError(
            f"{name_of(source)} is coded in a way this FFmpeg has no decoder for.",
            "A video that PyAV decodes is needed.",
            "Convert it to H.264 first.",
        )
    return streams[0]


def _is_cover(stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def sound_stream(container):
    """The first sound stream with a decoder, or None."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)


def clip_origin(container) -> Fraction:
    """The file's time that counts as 0 for frames, sound and muxing alike.

    It is 0 itself, as the model's frame choice has it: a picture that starts late is held from the start. Only where
    the picture begins after the last moment the model would read (recordings with hours of offset) is it the start of
    the file, since otherwise no frame would be chosen at all. A file with sound alone begins with its first sample.
    """
    pictures = [s for s in container.streams.video if not _is_cover(s)]
    if not pictures:
        sound = sound_stream(container)
        return sound.start_time * sound.time_base if sound is not None and sound.start_time else Fraction(0)
    first = pictures[0].start_time
    if first is None or first * pictures[0].time_base <= MAX_SECONDS:
        return Fraction(0)
    return Fraction(container.start_time, av.time_base)


def exact(seconds: float) -> Fraction:
    """A time from a widget as the fraction it stands for: 0.1 is 1/10, not the float just above it."""
    return Fraction(seconds).limit_denominator(1_000_000)


def check_trim(start: float, duration: float | None) -> None:
    """InputError unless `start` is at least 0 and `duration` None or positive, both finite."""
    if not (math.isfinite(start) and start >= 0):
        raise InputError(f"The start is {start} s.", "It must be 0 or later.", "Set it to the second to begin at.")
    if duration is not None and not (math.isfinite(duration) and duration > 0):
        raise InputError(
            f"The duration is {duration} s.", "It must be positive.", "Leave it out to read to the end."
        )


def seek_before(container, stream, time: Fraction) -> None:
    """Move an indexed file to a key frame safely before `time` (file's own seconds); others are read from the start."""
    target = time - _SEEK_MARGIN
    if target > 0 and _INDEXED_FORMATS & set(container.format.name.split(",")):
        container.seek(math.floor(target / stream.time_base), stream=stream)


def has_times(container, stream) -> bool:
    """Whether the times of showing can be trusted: AVI stores none, and B-frames are shown in another order."""
    context = stream.codec_context
    reordered = context.has_b_frames and context.codec.canonical_name in ("h264", "hevc")
    return not (container.format.name == "avi" and reordered)


def rate_of(stream) -> Fraction | None:
    """Frames per second as the file states them, or None."""
    return next((rate for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate) if rate), None)


def picture_seconds(container, stream) -> float | None:
    """Length of the picture as the file states it, or None."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    tagged = stream.metadata.get("DURATION", "")  # Matroska, as hours:minutes:seconds
    if tagged.count(":") == 2:
        hours, minutes, seconds = (float(part) for part in tagged.split(":"))
        return hours * 3600 + minutes * 60 + seconds - float((stream.start_time or 0) * stream.time_base)
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base
    return None
