"""Sound in and out: any track as float32, aligned to the picture's clock; WAV and FLAC."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError, NoSoundError
from .output import LAYOUTS, WriteReport, add_sound, audio_frame, check_waveform, clip, encode, replacing
from .packets import DecodeReport, decoded_frames
from .source import check_trim, clip_origin, exact, file_url, name_of, open_source, seek_before, sound_stream

# suffix -> container, codec, sample format. WAV keeps float32, so nothing in it can clip; FLAC is 24-bit.
_FILES = {".wav": ("wav", "pcm_f32le", "flt"), ".flac": ("flac", "flac", "s32")}
# Containers round times to a millisecond or two; only more than this (in seconds) is a hole in the sound. The
# shortest block a codec can lose is about as long.
_SMALLEST_HOLE = 0.01
_BLOCK = 1 << 16


def read_audio(
    source, *, start: float = 0.0, duration: float | None = None, report: DecodeReport | None = None
) -> tuple[torch.Tensor, int]:
    """(waveform float32 [channels, N], sample rate) of the first sound track, channels and rate as stored.

    Sample 0 is the file's time `start` on the clock of its picture: a track that begins later is preceded by silence,
    one that begins earlier is cut, and holes in it are silent. Where the sound ends before `duration` the waveform
    ends too. MediaError if there is no sound or none of it can be decoded.
    """
    check_trim(start, duration)
    report = report or DecodeReport()
    with open_source(source) as container:
        stream = sound_stream(container)
        if stream is None:
            raise NoSoundError(
                f"{name_of(source)} has no sound track that can be decoded.",
                "A file with sound is needed here.",
                "Choose another file, or replace the sound instead of mixing.",
            )
        base = clip_origin(container) + exact(start)
        seek_before(container, stream, base)
        line = _Line(base, None if duration is None else exact(duration), report)
        for frame in decoded_frames(container, stream, report):
            if not line.add(frame):
                break
    if report.failed:
        report.warn(f"The sound of {name_of(source)} is damaged: {report.failed} pieces of it are silent or rough.")
    return line.waveform(source)


class _Line:
    """Lays decoded blocks on a time line that begins at `base`."""

    def __init__(self, base: Fraction, duration: Fraction | None, report: DecodeReport):
        self._base, self._duration, self._report = base, duration, report
        self._blocks: list[np.ndarray] = []
        self._rate, self._channels, self._position, self._end = 0, 0, None, None

    def add(self, frame: av.AudioFrame) -> bool:
        """Lay down one block; False once the end is reached."""
        samples = _samples(frame)
        if self._position is None:
            self._begin(frame, samples.shape[0])
        if (frame.sample_rate, samples.shape[0]) != (self._rate, self._channels):
            self._report.failed += 1  # a change of format in mid-track; its place stays silent
            return True
        self._fill_hole(frame)
        self._put(samples)
        return self._end is None or self._position < self._end

    def waveform(self, source) -> tuple[torch.Tensor, int]:
        if not self._rate:
            raise NoSoundError(
                f"No sound of {name_of(source)} could be decoded.",
                "A sound track with at least one whole block is needed.",
                "It may be empty or damaged: play it, or export it again.",
            )
        if not self._blocks:
            return torch.zeros(self._channels, 0), self._rate
        return torch.from_numpy(np.concatenate(self._blocks, axis=1)[:, : self._end]), self._rate

    def _begin(self, frame: av.AudioFrame, channels: int) -> None:
        self._rate, self._channels = frame.sample_rate, channels
        self._end = None if self._duration is None else round(self._duration * self._rate)
        place = self._place(frame) or 0
        self._position = min(place, 0)
        self._silence(place)

    def _place(self, frame: av.AudioFrame) -> int | None:
        if frame.pts is None:
            return None
        return round((frame.pts * frame.time_base - self._base) * self._rate)

    def _fill_hole(self, frame: av.AudioFrame) -> None:
        place = self._place(frame)
        if place is not None and place - self._position > _SMALLEST_HOLE * self._rate:
            self._silence(place)

    def _silence(self, until: int) -> None:
        until = until if self._end is None else min(until, self._end)
        if until > self._position:
            self._put(np.zeros((self._channels, until - self._position), np.float32))

    def _put(self, samples: np.ndarray) -> None:
        before = max(-self._position, 0)  # what lies before the start of the clip
        self._position += samples.shape[1]
        if before < samples.shape[1]:
            self._blocks.append(samples[:, before:])


def _samples(frame: av.AudioFrame) -> np.ndarray:
    """float32 [channels, n] in -1..1 of a block in any sample format."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if np.issubdtype(values.dtype, np.integer):
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return values.astype(np.float32)


def resample(waveform: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """`waveform` [..., N] at another rate: float32 [..., round(N * to / from)], no delay (libswresample)."""
    if from_rate <= 0 or to_rate <= 0:
        raise InputError(f"Sample rates {from_rate} and {to_rate}.", "Both must be positive.", "Use 48000.")
    waveform, from_rate, to_rate = waveform.detach().to("cpu", torch.float32), int(from_rate), int(to_rate)
    if from_rate == to_rate:
        return waveform
    length = round(Fraction(waveform.shape[-1] * to_rate, from_rate))
    rows = [_resample_row(row, from_rate, to_rate, length) for row in waveform[None].flatten(0, -2)]
    return torch.stack(rows).reshape(*waveform.shape[:-1], length)


def _resample_row(row: torch.Tensor, from_rate: int, to_rate: int, length: int) -> torch.Tensor:
    converter = av.AudioResampler(format="fltp", layout="mono", rate=to_rate)
    blocks = [part.to_ndarray()[0] for piece in (*_pieces(row, from_rate), None) for part in converter.resample(piece)]
    out = torch.from_numpy(np.concatenate(blocks)) if blocks else torch.zeros(0)
    return F.pad(out, (0, length - out.shape[0]))


def _pieces(row: torch.Tensor, rate: int) -> Iterator[av.AudioFrame]:
    for at in range(0, row.shape[0], _BLOCK):
        frame = audio_frame(row[None, at : at + _BLOCK], rate)
        frame.pts, frame.time_base = at, Fraction(1, rate)
        yield frame


def to_mono(waveform: torch.Tensor) -> torch.Tensor:
    """The mean of the channels: [..., channels, N] to [..., 1, N]."""
    return waveform.mean(dim=-2, keepdim=True)


def to_stereo(waveform: torch.Tensor) -> torch.Tensor:
    """[channels, N] with 3 to 8 channels mixed down to two by libswresample, more to one; fewer stay as they are."""
    channels = waveform.shape[0]
    if channels <= 2:
        return waveform
    if channels not in LAYOUTS:
        return to_mono(waveform)
    converter = av.AudioResampler(format="fltp", layout="stereo")
    frame = audio_frame(waveform, 48_000)  # any rate: it stays
    parts = [part.to_ndarray() for piece in (frame, None) for part in converter.resample(piece)]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def write_audio(path, waveform: torch.Tensor, sample_rate: int, format: str | None = None) -> WriteReport:
    """Write `waveform` [channels, N] as WAV (float32, level as given) or FLAC (24-bit, cut at full scale).

    Args:
        format: "wav" or "flac"; None takes it from the suffix of `path`.

    The file appears whole or not at all. InputError for a wrong tensor or format, MediaError if it cannot be written.
    """
    path = Path(path)
    suffix = f".{format.lower()}" if format else path.suffix.lower()
    if suffix not in _FILES:
        raise InputError(
            f"Sound was to be written as {suffix or 'a file without suffix'}.",
            f"Known are {', '.join(_FILES)}.",
            "Change the file's name.",
        )
    container_name, codec, sample_format = _FILES[suffix]
    waveform = check_waveform(waveform, sample_rate)
    report = WriteReport(path, codec, waveform.shape[1] / sample_rate)
    if codec == "flac":
        waveform = clip(waveform, report)
    with replacing(path) as temporary, av.open(file_url(temporary), "w", format=container_name) as container:
        stream = add_sound(container, codec, sample_format, int(sample_rate), waveform.shape[0])
        for packet in encode(stream, waveform, int(sample_rate)):
            container.mux(packet)
    return report
