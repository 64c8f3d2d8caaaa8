"""Streaming decode: frames come one by one, and only those an encoder sees are turned into RGB."""

import math
import os
from collections.abc import Callable, Iterator
from fractions import Fraction

import av

from ..errors import MediaError, NoPictureError
from ..timing import MAX_SECONDS, SYNC_RATE, VISUAL_RATE
from .frames import STOP, FramePicker, SelectedFrame
from .packets import DecodeReport, decoded_frames
from .picture import Upright, clockwise, display_matrix, is_transposed
from .source import (
    VideoInfo,
    check_trim,
    clip_origin,
    exact,
    has_times,
    name_of,
    open_source,
    picture_seconds,
    picture_stream,
    rate_of,
    seek_before,
    sound_stream,
)

# With threads by frame, each one more holds one more picture in memory.
_MAX_THREADS = 4


def probe(source) -> VideoInfo:
    """What the file says of itself; decodes one frame, for the rotation. MediaError if it holds no picture."""
    with open_source(source) as container:
        stream = picture_stream(container, source)
        sound = sound_stream(container)
        context, duration = stream.codec_context, picture_seconds(container, stream)
        first = next(_pictures(container, stream, DecodeReport()), None)
        matrix = None if first is None else display_matrix(first)
        swapped = matrix is not None and is_transposed(matrix)
        return VideoInfo(
            width=context.height if swapped else context.width,
            height=context.width if swapped else context.height,
            rotation=0 if matrix is None else clockwise(matrix),
            duration=duration,
            average_rate=rate_of(stream),
            frames=stream.frames or None,
            codec=context.codec.canonical_name,
            pixel_format=context.pix_fmt,
            format=container.format.name,
            has_audio=sound is not None,
            sample_rate=sound.codec_context.sample_rate if sound else None,
            audio_channels=sound.codec_context.layout.nb_channels if sound else None,
        )


def stream_frames(
    source,
    *,
    start: float = 0.0,
    duration: float | None = None,
    max_seconds: float | None = MAX_SECONDS,
    callback: Callable[[float, float | None], None] | None = None,
    report: DecodeReport | None = None,
) -> Iterator[SelectedFrame]:
    """The frames chosen at 8 or 25 fps, in order, one in memory at a time.

    Args:
        source: path or seekable file-like object.
        start: seconds into the file at which the clip begins.
        duration: length of the clip in seconds; None reads to the end.
        max_seconds: no frame of the clip after this is read (None: no limit).
        callback: called as (seconds done, seconds in all or None) for every frame decoded; may raise to cancel.
        report: filled with counts and warnings, complete once the iterator is used up.

    MediaError if the file cannot be opened, holds no picture, or no frame of the clip can be decoded. Where only some
    cannot, their neighbours stand in for them and a warning counts them.
    """
    check_trim(start, duration)
    return _stream(source, start, duration, max_seconds, callback or _ignore, report or DecodeReport())


def _ignore(done: float, total: float | None) -> None:
    pass


def _stream(source, start, duration, max_seconds, callback, report) -> Iterator[SelectedFrame]:
    picker = FramePicker((VISUAL_RATE, SYNC_RATE), max_seconds, None if duration is None else float(exact(duration)))
    with open_source(source) as container:
        stream = picture_stream(container, source)
        length = picture_seconds(container, stream)
        total = _shortest(None if length is None else max(length - start, 0.0), duration, max_seconds)
        coverage, upright = _Coverage(source, stream, report), Upright()
        for time, frame in _timed_frames(container, stream, start, report):
            callback(min(max(time, 0.0), math.inf if total is None else total), total)
            coverage.see(time)
            repeats = picker.repeats(time)
            if repeats is STOP:
                break
            if any(repeats):
                report.visual_frames += repeats[0]
                report.sync_frames += repeats[1]
                yield SelectedFrame(time, upright(frame), *repeats)
        else:
            coverage.check_end(None if length is None else length - start)
        coverage.check_gap()
        _check_result(source, report, start, max_seconds)


def _shortest(*seconds: float | None) -> float | None:
    return min((s for s in seconds if s is not None), default=None)


def _timed_frames(container, stream, start: float, report: DecodeReport) -> Iterator[tuple[float, av.VideoFrame]]:
    """(seconds since the start of the clip, frame) for all frames from somewhere before the start on."""
    begin = clip_origin(container) + exact(start)
    # Down to a tick of the file, as ComfyUI trims, so that a rounded-off start does not miss the frame it means.
    base = math.floor(begin / stream.time_base) * stream.time_base
    seek_before(container, stream, base)
    stamps = _Stamps(container, stream)
    for frame in _pictures(container, stream, report):
        yield float(stamps.time(frame) - base), frame


def _pictures(container, stream, report: DecodeReport) -> Iterator[av.VideoFrame]:
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = min(_MAX_THREADS, os.cpu_count() or 1)
    return decoded_frames(container, stream, report)


class _Stamps:
    """Times of frames; those without a pts follow the last one that had it, at the file's frame rate."""

    def __init__(self, container, stream):
        self._rate = rate_of(stream)
        self._trusted = has_times(container, stream)
        self._anchor, self._since = Fraction(0), 0

    def time(self, frame: av.VideoFrame) -> Fraction:
        if self._trusted and frame.pts is not None:
            self._anchor, self._since = frame.pts * frame.time_base, 1
            return self._anchor
        if self._rate is None:
            raise MediaError(
                "The video has neither times nor a frame rate.",
                "One of them is needed to keep sound and picture together.",
                "Put it into an MP4 or Matroska file at its frame rate.",
            )
        time = self._anchor + self._since / self._rate
        self._since += 1
        return time


class _Coverage:
    """Notices where pictures are missing, which decoders do not always report."""

    def __init__(self, source, stream, report: DecodeReport):
        self._name, self._report = name_of(source), report
        self._period = 1 / float(rate_of(stream) or SYNC_RATE)
        self._last = None
        self._gap = (0.0, 0.0)

    def see(self, time: float) -> None:
        if self._last is not None and time - self._last > self._gap[1] - self._gap[0] and time > 0:
            self._gap = (self._last, time)
        self._last = time

    def check_gap(self) -> None:
        begin, end = self._gap
        if end - begin > max(5 * self._period, 0.3):
            self._report.warn(
                f"{self._name} has no new picture between {begin:.2f} s and {end:.2f} s; "
                "the next one stands for that time."
            )

    def check_end(self, length: float | None) -> None:
        """Warn when the frames end well before the length that the file states."""
        if self._last is None or length is None:
            return
        end = self._last + self._period
        if end + max(2 * self._period, 0.25) < length:
            self._report.warn(f"{self._name} should show pictures for {length:.2f} s, but they end after {end:.2f} s.")


def _check_result(source, report: DecodeReport, start: float, max_seconds: float | None) -> None:
    name = name_of(source)
    if report.sync_frames:
        if report.failed:
            report.warn(
                f"{name} is damaged: {report.failed} of its pictures could not be decoded in full; "
                "the pictures around them stand in."
            )
        return
    if not report.decoded:
        raise NoPictureError(
            f"No picture of {name} could be decoded ({report.failed} failed).",
            "A video with at least one whole frame is needed.",
            "It may be empty or damaged: play it, or export it again.",
        )
    limit = "" if max_seconds is None else f" within {max_seconds:g} s"
    raise NoPictureError(
        f"{name} shows no picture from {start:g} s on{limit}.",
        "At least one frame has to lie in the part that is asked for.",
        "Move the start or check the trim.",
    )
