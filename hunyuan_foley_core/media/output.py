"""Writing results whole or not at all, and sound at full scale and no further."""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from ..errors import InputError, UnwritableError
from ..whole_files import whole

# Names of FFmpeg for what WAV and FLAC mean by so many channels.
LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_BLOCK = 1 << 15  # samples handed to an encoder at a time
_FULL_24_BIT = 1 << 23


@dataclass
class WriteReport:
    """What was written.

    Attributes:
        path: the finished file.
        codec: of the sound.
        seconds: length of the sound.
        clipped: samples beyond full scale that had to be cut to it.
        dropped: streams of the source that the new file does not have, in words.
        warnings: one sentence each, for the user.
    """

    path: Path
    codec: str
    seconds: float
    clipped: int = 0
    dropped: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path next to `path` to write to; it takes the place of `path` when the block ends well, else it is removed.

    MediaError where FFmpeg or the system refuses to write.
    """
    try:
        with whole(path) as temporary:
            yield temporary
    except (av.error.FFmpegError, OSError) as error:
        raise UnwritableError(
            f"{path} could not be written ({error.strerror or error}).",
            "A folder that exists, may be written to and has room is needed.",
            "Check the folder and the free space, or choose another name.",
        ) from error


def check_waveform(waveform: torch.Tensor, sample_rate: int) -> torch.Tensor:
    """The waveform in float32 on the CPU. InputError unless it is finite and [1 to 8, N]."""
    if waveform.ndim != 2 or waveform.shape[0] not in LAYOUTS:
        raise InputError(
            f"The sound comes as a tensor of shape {tuple(waveform.shape)}.",
            f"It must be (channels, samples) with 1 to {max(LAYOUTS)} channels.",
            "Pick one item of the batch, or mix the channels down.",
        )
    if int(sample_rate) != sample_rate or sample_rate <= 0:
        raise InputError(f"The sample rate is {sample_rate}.", "It must be a positive whole number.", "Use 48000.")
    waveform = waveform.detach().to("cpu", torch.float32)
    # The extremes show it without a copy of what may be an hour.
    if waveform.numel() and not all(math.isfinite(extreme) for extreme in waveform.aminmax()):
        raise InputError(
            "The sound holds values that are not numbers (NaN or infinite).",
            "All samples must be finite.",
            "Something before this step went wrong: try float32 or bfloat16 weights, or another seed.",
        )
    return waveform


def clip(waveform: torch.Tensor, report: WriteReport) -> torch.Tensor:
    """The waveform cut to -1..1; what lay outside is counted and told in the report."""
    peak = max(abs(float(extreme)) for extreme in waveform.aminmax()) if waveform.numel() else 0.0
    if peak <= 1:
        return waveform
    report.clipped = int((waveform.abs() > 1).sum())
    report.warnings.append(
        f"{report.clipped} samples were beyond full scale (peak {20 * math.log10(peak):+.1f} dB) and were cut to it; "
        "lower the gain to keep their shape."
    )
    return waveform.clamp(-1, 1)


def add_sound(container, codec: str, sample_format: str, sample_rate: int, channels: int, bit_rate: int | None = None):
    """A sound stream in a container that is being written."""
    stream = container.add_stream(codec, rate=sample_rate)
    stream.codec_context.format = sample_format
    stream.codec_context.layout = LAYOUTS[channels]
    if bit_rate:
        stream.bit_rate = bit_rate
    return stream


def encode(stream, waveform: torch.Tensor, sample_rate: int) -> Iterator[av.Packet]:
    """Packets of `waveform` [channels, N]; sample 0 is time 0, whatever delay the codec has."""
    in_24_bit = stream.codec_context.format.name.startswith("s32")
    for at in range(0, waveform.shape[1], _BLOCK):
        block = waveform[:, at : at + _BLOCK]
        frame = audio_frame(_as_24_bit(block) if in_24_bit else block, sample_rate)
        frame.pts, frame.time_base = at, Fraction(1, sample_rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def coded(waveform: torch.Tensor, sample_rate: int, coding) -> torch.Tensor:
    """`waveform` [channels, N] as it is after coding and decoding, [channels, about N] float32."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = add_sound(
            container, coding.encoder, coding.sample_format, sample_rate, waveform.shape[0], coding.bit_rate
        )
        for packet in encode(stream, waveform.clamp(-1, 1), sample_rate):
            container.mux(packet)
    file.seek(0)
    with av.open(file) as container:
        blocks = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return torch.from_numpy(np.concatenate(blocks, axis=1)).float() if blocks else waveform[:, :0]


def audio_frame(waveform: torch.Tensor, sample_rate: int) -> av.AudioFrame:
    """A frame of `waveform` [channels, N], float32 or int32; interleaved, as PyAV cannot fill 8 separate planes."""
    sample_format = "flt" if waveform.is_floating_point() else "s32"
    samples = waveform.T.reshape(1, -1).contiguous().numpy()
    frame = av.AudioFrame.from_ndarray(samples, format=sample_format, layout=LAYOUTS[waveform.shape[0]])
    frame.sample_rate = sample_rate
    return frame


def _as_24_bit(block: torch.Tensor) -> torch.Tensor:
    """24-bit levels in the upper bits of int32, which is where FFmpeg's FLAC takes them from."""
    levels = (block.double() * _FULL_24_BIT).round().clamp(-_FULL_24_BIT, _FULL_24_BIT - 1)
    return levels.to(torch.int32) << 8
