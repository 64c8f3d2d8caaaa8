"""Putting sound to a picture: picture packets are copied bit for bit, only the sound is coded."""

import errno
import heapq
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import torch

from ..errors import InputError, MediaError, NoPictureError
from ..timing import SYNC_RATE
from .audio import read_audio
from .containers import DEFAULT_RATE, Codec, Container, codec_for, container_for, held_by, rate_for, suffix_for
from .mixdown import Mix, Track, check_sound_rate, mixdown
from .output import WriteReport, add_sound, clip, encode, replacing
from .packets import DecodeReport, demuxed
from .source import (
    check_trim,
    clip_origin,
    file_url,
    has_times,
    name_of,
    open_source,
    picture_seconds,
    picture_stream,
    rate_of,
)

# Tags that describe the old file rather than what is in it.
_OWN_TAGS = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "handler_name", "vendor_id"}


@dataclass(frozen=True)
class _Picture:
    """What copying needs to know of a picture beforehand.

    Attributes:
        codec: FFmpeg's name.
        seconds: when the last frame ends.
        origin: the file's time that counts as 0.
        packets: how many there are up to the last that is shown; an edited MP4 may hide some after it.
        hidden: whether it hides frames before its start too, which only decoding needs.
    """

    codec: str
    seconds: Fraction
    origin: Fraction
    packets: int
    hidden: bool


def mux(
    source,
    waveform: torch.Tensor,
    sample_rate: int,
    out_path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    codec: str | None = None,
    rate: int | None = None,
    callback: Callable[[float, float], None] | None = None,
    **mix,
) -> WriteReport:
    """Write the picture of `source` with `waveform` as its sound; the result is exactly as long as the picture.

    Args:
        source: path or seekable file-like object.
        waveform: float [channels, N] at `sample_rate`; more than two channels become stereo.
        out_path: .mp4 or .mov (AAC, 256 kbit/s), .webm (Opus, 192 kbit/s) or .mkv (FLAC, 24 bit).
        start, duration: only the whole source can be copied; anything else is an InputError.
        codec: "aac", "flac", "pcm" (24 bit) or "opus" in place of the file's own.
        rate: sample rate to write; None: `sample_rate` where the codec takes it, else 48000.
        callback: called as (seconds done, seconds in all) for every packet copied; may raise to cancel.
        mix: fields of `Mix`: mode, gains, offset, ducking, loudness, width.

    The file appears whole or not at all. MediaError if the source cannot be read, its picture does not fit the
    container, mixing finds no sound, or the file cannot be written; InputError for wrong arguments.
    """
    out_path, wanted = Path(out_path), Mix(**mix)
    kind, coding = container_for(out_path), codec_for(out_path, codec, rate)
    reading = DecodeReport()
    picture = _measure(source, reading)
    _check_whole(picture, start, duration)
    _check_fits(source, picture, kind, out_path)

    rate = rate or rate_for(coding, sample_rate)
    report = WriteReport(out_path, coding.encoder, float(picture.seconds))
    track = _mixed(source, picture, waveform, sample_rate, rate, wanted, reading, coding)
    report.warnings += track.warnings
    _write(source, picture, clip(track.waveform, report), rate, kind, coding, report, callback)
    report.warnings = list(dict.fromkeys(reading.warnings)) + report.warnings
    return report


def mixdown_for(
    source, waveform: torch.Tensor, sample_rate: int, out_path=None, *,
    codec: str | None = None, rate: int | None = None, **mix,
) -> Track:
    """The sound that `mux` would write onto the picture of `source`, for those who want it on its own.

    Args:
        out_path, codec: where the sound will be written and how, if it will: coding moves true peaks.
    """
    reading, coding = DecodeReport(), None if out_path is None else codec_for(Path(out_path), codec, rate)
    return _mixed(
        source, _measure(source, reading), waveform, sample_rate, rate or int(sample_rate), Mix(**mix), reading, coding
    )


def check_mux(source, out_path, mode: str = "replace", *, codec: str | None = None, rate: int | None = None) -> None:
    """Raise what `mux` would for this source and name, to be asked before hours are spent on the sound."""
    out_path, mode = Path(out_path), Mix(mode=mode).mode
    kind, picture = container_for(out_path), _measure(source, DecodeReport())
    coding = codec_for(out_path, codec, check_sound_rate(rate))
    _check_fits(source, picture, kind, out_path)
    _check_header(source, picture, kind, coding, rate or rate_for(coding, DEFAULT_RATE), out_path)
    if mode == "mix":
        read_audio(source, duration=0.1)


def picture_length(source) -> float | None:
    """Seconds of the picture as `mux` counts them, up to the end of the last one that is shown.

    Read from the packets, so for a file that does not say too. Where pictures have no times it is what the file says,
    or None. MediaError if the file cannot be read or holds no picture.
    """
    try:
        return float(_measure(source, DecodeReport()).seconds)
    except MediaError:
        with open_source(source) as container:
            return picture_seconds(container, picture_stream(container, source))


def _measure(source, reading: DecodeReport) -> _Picture:
    """Read the packets once, without decoding: only they tell for sure when the picture ends."""
    with open_source(source) as container:
        stream = picture_stream(container, source)
        origin, period = clip_origin(container), 1 / (rate_of(stream) or Fraction(SYNC_RATE))
        trusted = has_times(container, stream)
        codec = stream.codec_context.codec.canonical_name
        end, count, shown, hidden = Fraction(0), 0, 0, False
        for packet in demuxed(container, stream, reading):
            if not packet.size:
                continue
            if packet.pts is None or not trusted:
                raise _no_times(source)
            count += 1
            if packet.is_discard:
                hidden = hidden or packet.pts < 0
                continue
            shown = count
            lasts = packet.duration * packet.time_base if packet.duration else period
            end = max(end, packet.pts * packet.time_base + lasts)
    if end <= origin:
        raise _no_picture(source)
    return _Picture(codec, end - origin, origin, shown, hidden)


def _no_times(source) -> MediaError:
    return MediaError(
        f"{name_of(source)} does not store when each picture is shown.",
        "Pictures can only be copied together with their times.",
        "Convert it to MP4 or Matroska first.",
    )


def _no_picture(source) -> MediaError:
    return NoPictureError(
        f"{name_of(source)} holds no picture after its time 0.",
        "A video with at least one frame is needed.",
        "It may be empty or damaged: play it, or export it again.",
    )


def _check_whole(picture: _Picture, start: float, duration: float | None) -> None:
    check_trim(start, duration)
    cut_off = duration is not None and duration < picture.seconds - Fraction(1, 1000)
    if start > 0 or cut_off:
        raise InputError(
            f"A part of the video was to be copied (from {start:g} s, of {float(picture.seconds):.2f} s).",
            "Copied pictures can only start at a key frame, so only the whole video can be copied.",
            "Save the trimmed video first and use that file.",
        )


def _check_fits(source, picture: _Picture, kind: Container, path: Path) -> None:
    if picture.codec not in held_by(kind.name):
        raise _misfit(source, picture, path)
    if picture.hidden and not kind.options:
        raise MediaError(
            f"{name_of(source)} was trimmed without coding it again and hides frames before its start.",
            f"{path.suffix} files cannot hide frames.",
            "Write a .mp4 or .mov file instead.",
        )


def _check_header(source, picture: _Picture, kind: Container, coding: Codec, rate: int, path: Path) -> None:
    """MediaError where the muxer refuses a header of these streams, written to memory."""
    with open_source(source) as old, av.open(io.BytesIO(), "w", format=kind.name) as new:
        _copied_streams(source, old, new, kind, WriteReport(path, coding.encoder, 0.0))
        add_sound(new, coding.encoder, coding.sample_format, rate, 2, coding.bit_rate)
        _begin(new, source, picture, path)


def _misfit(source, picture: _Picture, path: Path) -> MediaError:
    suffix = suffix_for(source)
    suffix = ".mkv" if suffix == path.suffix.lower() else suffix
    return MediaError(
        f"The picture of {name_of(source)} is {picture.codec}, which {path.suffix} files cannot hold.",
        "Pictures are copied, never coded again.",
        f"Write a {suffix} file instead, or convert the video first.",
    )


def _mixed(
    source, picture: _Picture, waveform, sample_rate: int, rate: int, mix: Mix, reading: DecodeReport, coding: Codec | None
) -> Track:
    original = read_audio(source, duration=float(picture.seconds), report=reading) if mix.mode == "mix" else None
    return mixdown(waveform, sample_rate, picture.seconds, original=original, rate=rate, mix=mix, coding=coding)


def _write(source, picture, track, rate, kind: Container, coding: Codec, report: WriteReport, callback) -> None:
    reading = DecodeReport()  # the first reading has told what there is to tell
    with (
        replacing(report.path) as temporary,
        open_source(source) as old,
        av.open(file_url(temporary), "w", format=kind.name, options=dict(kind.options)) as new,
    ):
        copies = _copied_streams(source, old, new, kind, report)
        sound = add_sound(new, coding.encoder, coding.sample_format, rate, track.shape[0], coding.bit_rate)
        new.metadata.update(_kept_tags(old.metadata))
        _begin(new, source, picture, report.path)
        old_packets = _copied_packets(old, copies, picture, reading)
        for packet in heapq.merge(old_packets, encode(sound, track, rate), key=_seconds):
            if callback:
                callback(min(max(_seconds(packet), 0.0), report.seconds), report.seconds)
            new.mux(packet)


def _begin(new, source, picture: _Picture, path: Path) -> None:
    """Write the header; the muxer may refuse what its list of codecs admits, such as VP9 in MOV."""
    try:
        new.start_encoding()
    except av.error.FFmpegError as error:
        if error.errno == errno.EINVAL:
            raise _misfit(source, picture, path) from error
        raise


def _copied_streams(source, old, new, kind: Container, report: WriteReport) -> dict:
    """New stream by the index of the old one it copies: the picture, and subtitles where the container takes them."""
    copies = {}
    picture, sounds = picture_stream(old, source), 0
    for stream in old.streams:
        if stream.type == "audio":
            sounds += 1
        elif stream is picture or (stream.type == "subtitle" and _codec_name(stream) in held_by(kind.name)):
            copies[stream.index] = new.add_stream_from_template(stream, opaque=True)
            copies[stream.index].metadata.update(_kept_tags(stream.metadata))
        else:
            report.dropped.append(f"{stream.type} stream {stream.index} ({_codec_name(stream) or 'unknown'})")
    if sounds > 1:
        report.dropped.append(f"{sounds - 1} further sound tracks")
    if report.dropped:
        report.warnings.append(f"Not taken over into {report.path.name}: {', '.join(report.dropped)}.")
    return copies


def _codec_name(stream) -> str | None:
    return stream.codec_context.codec.canonical_name if stream.codec_context is not None else None


def _kept_tags(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in _OWN_TAGS}


def _copied_packets(old, copies: dict, picture: _Picture, reading: DecodeReport) -> Iterator[av.Packet]:
    left = picture.packets
    for packet in demuxed(old, [old.streams[index] for index in copies], reading):
        if not packet.size or packet.pts is None:
            continue
        if packet.stream.type == "video":
            left -= 1
            if left < 0:
                continue
        if picture.origin:
            shift = round(picture.origin / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = copies[packet.stream_index]
        yield packet


def _seconds(packet: av.Packet) -> float:
    stamp = packet.pts if packet.dts is None else packet.dts
    return float(stamp * packet.time_base)
