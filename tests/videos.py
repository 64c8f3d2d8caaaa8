"""Short clips made on the spot with PyAV, so that no test needs a file that is not ours.

Every frame carries its own number as eight black or white bars, readable again after lossy coding, so a test can
say which frame it was given and whether it stands upright.
"""

import math
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (64, 48)  # width, height
BITS = 8


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 [H, W, 3]: red left and blue right above, the bits of `index` as bars below (most significant left)."""
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 30)
    image[: height // 2, width // 2 :] = (30, 30, 220)
    for bit in range(BITS):
        if index >> (BITS - 1 - bit) & 1:
            image[height // 2 :, bit * width // BITS : (bit + 1) * width // BITS] = 255
    return image


def index_of(image) -> int:
    """The number that `picture` drew, from an upright uint8 (3, H, W) tensor or array."""
    levels = np.asarray(image).mean(axis=0)
    height, width = levels.shape
    row = levels[height * 3 // 4]
    centres = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    return sum(int(row[x] > 128) << (BITS - 1 - bit) for bit, x in enumerate(centres))


def is_upright(image) -> bool:
    """Whether red stands above left and blue above right."""
    image = np.asarray(image).astype(int)
    height, width = image.shape[1:]
    left, right = image[:, height // 4, width // 4], image[:, height // 4, width * 3 // 4]
    return left[0] > left[2] + 60 and right[2] > right[0] + 60


def sine(seconds: float, rate: int = 48_000, frequency: float = 440.0, channels: int = 1) -> np.ndarray:
    """float32 [channels, N] at half of full scale."""
    wave = 0.5 * np.sin(2 * math.pi * frequency * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def impulse(seconds: float, at: int, rate: int = 48_000, channels: int = 1) -> np.ndarray:
    """float32 [channels, N], silent but for a short click whose peak is sample `at`."""
    wave = np.zeros((channels, round(seconds * rate)), np.float32)
    reach = np.arange(-48, 49)
    wave[:, at + reach] = 0.9 * np.sinc(reach / 6) * np.hanning(99)[1:-1]
    return wave


def _video_stream(container, codec: str, pix_fmt: str, size, rate, time_base, options: dict):
    stream = container.add_stream(codec, rate=rate, options=options)
    stream.width, stream.height = size
    stream.pix_fmt = pix_fmt
    stream.codec_context.time_base = time_base
    stream.codec_context.thread_count = 1
    return stream


def _audio_packets(container, codec: str, waveform: np.ndarray, rate: int, layout: str, start: float):
    stream = container.add_stream(codec, rate=rate)
    stream.codec_context.layout = layout
    converter = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)

    def packets():
        first = round(start * rate)
        for at in range(0, waveform.shape[1], 4800):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform[:, at : at + 4800]), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, first + at, Fraction(1, rate)
            for converted in converter.resample(frame):
                yield from stream.encode(converted)
        for converted in converter.resample(None):
            yield from stream.encode(converted)
        yield from stream.encode(None)

    return packets


def make_video(
    target,
    *,
    frames: int = 30,
    rate=30,
    times_ms: list[int] | None = None,
    size: tuple[int, int] = SIZE,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict | None = None,
    first_pts: int = 0,
    waveform: np.ndarray | None = None,
    audio_codec: str = "aac",
    audio_rate: int = 48_000,
    audio_layout: str = "mono",
    audio_start: float = 0.0,
    format: str | None = None,
    container_options: dict | None = None,
    turned=None,
    tags: dict[str, str] | None = None,
):
    """Write a clip to `target` (path or file-like) and return `target`.

    Args:
        times_ms: the time of each frame in milliseconds, for a variable frame rate (overrides `frames`).
        size: width and height as shown.
        first_pts: added to every frame's pts (in units of 1/rate, or of ms with `times_ms`).
        turned: 90, 180, 270 or "mirror": stored as a camera held that way does, with the matrix that undoes it.
    """
    if options is None:
        options = {"preset": "ultrafast", "g": "10"} if codec == "libx264" else {}
    time_base = Fraction(1, 1000) if times_ms else 1 / Fraction(rate)
    stamps = times_ms or list(range(frames))
    where = str(target) if isinstance(target, Path) else target
    with av.open(where, "w", format=format, options=container_options or {}) as container:
        container.metadata.update(tags or {})
        video = _video_stream(container, codec, pix_fmt, _stored_size(size, turned), rate, time_base, options)
        if waveform is not None:
            audio = _audio_packets(container, audio_codec, waveform, audio_rate, audio_layout, audio_start)
        for index, stamp in enumerate(stamps):
            image = _stored(picture(index, size), turned)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = stamp + first_pts, time_base
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if waveform is not None:
            for packet in audio():
                container.mux(packet)
    if turned is not None:
        turn(target, turned)
    return target


class _Unseekable:
    """A file that is only ever written on, as what a browser records."""

    def __init__(self, file):
        self.write = file.write


def make_recording(path: Path, **how) -> Path:
    """A WebM that does not say how long it is."""
    with open(path, "wb") as file:
        make_video(_Unseekable(file), codec="libvpx-vp9", format="webm", **how)
    return path


def make_audio(target, waveform: np.ndarray, *, codec: str, rate: int = 48_000, layout: str = "mono", format=None):
    """Write a file with sound only."""
    with av.open(str(target), "w", format=format) as container:
        for packet in _audio_packets(container, codec, waveform, rate, layout, 0.0)():
            container.mux(packet)
    return target


def _fixed(value: float) -> int:
    return round(value * 65536)


# a b u / c d v / x y w of a track header, u v w in 2.30 fixed point; what phones write for each turn of the camera.
_MATRICES = {
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
    "mirror": (-1, 0, 0, 1),
}


def turn(path: Path, turned) -> Path:
    """Write a display matrix into the first track header of an mp4: the viewer turns the picture clockwise by 90,
    180 or 270 degrees, or mirrors it left to right."""
    data = bytearray(path.read_bytes())
    header = data.index(b"tkhd") + 4
    matrix = header + (40 if data[header] == 0 else 52)
    a, b, c, d = _MATRICES[turned]
    data[matrix : matrix + 36] = struct.pack(">9i", *(_fixed(v) for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    path.write_bytes(bytes(data))
    return path


def _stored_size(size: tuple[int, int], turned) -> tuple[int, int]:
    return size[::-1] if turned in (90, 270) else size


def _stored(image: np.ndarray, turned) -> np.ndarray:
    if turned is None:
        return image
    return np.ascontiguousarray(image[:, ::-1] if turned == "mirror" else np.rot90(image, k=turned // 90))


def trim_by_edit_list(path: Path, start: float, seconds: float) -> Path:
    """Trim an mp4 the way phones do: the edit lists say what to show, the frames outside stay in the file."""
    data, at = bytearray(path.read_bytes()), 0
    with av.open(str(path)) as container:
        rates = [stream.time_base.denominator for stream in container.streams]
    for rate in rates:
        at = data.index(b"elst", at) + 12
        _, media_time = struct.unpack(">Ii", data[at : at + 8])
        data[at : at + 8] = struct.pack(">Ii", round(seconds * 1000), media_time + round(start * rate))
    path.write_bytes(bytes(data))
    return path


def damage(path: Path, begin: float, end: float) -> Path:
    """Overwrite a part of the file, given as fractions of its length, with zeros."""
    data = bytearray(path.read_bytes())
    first, last = int(len(data) * begin), int(len(data) * end)
    data[first:last] = bytes(last - first)
    path.write_bytes(bytes(data))
    return path


def with_streams(target: Path, *sources: Path) -> Path:
    """All streams of the sources in one file, copied."""
    opened = [av.open(str(source)) for source in sources]
    with av.open(str(target), "w") as container:
        copies = [[(s, container.add_stream_from_template(s, opaque=True)) for s in old.streams] for old in opened]
        for old, pairs in zip(opened, copies, strict=True):
            for packet in old.demux():
                if packet.size:
                    packet.stream = next(new for stream, new in pairs if stream.index == packet.stream_index)
                    container.mux(packet)
    for old in opened:
        old.close()
    return target


def packets(path, kind: str = "video") -> list[tuple[bytes, float]]:
    """(payload, presentation time in seconds) of every packet of the first stream of that kind."""
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        found = [packet for packet in container.demux(stream) if packet.size]
        return [(bytes(packet), float(packet.pts * packet.time_base)) for packet in found]
