"""Which files hold a picture with sound, and which codecs of sound each of them takes."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av

from ..errors import InputError
from .source import open_source, picture_stream

DEFAULT_RATE = 48_000


@dataclass(frozen=True)
class Codec:
    """How sound is coded.

    Attributes:
        encoder, sample_format: FFmpeg's names.
        rates: sample rates it takes; () for any.
    """

    encoder: str
    sample_format: str
    rates: tuple[int, ...] = ()
    bit_rate: int | None = None


CODECS = {
    "aac": Codec(
        "aac", "fltp", (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000), 256_000
    ),
    "flac": Codec("flac", "s32"),
    "pcm": Codec("pcm_s24le", "s32"),
    "opus": Codec("libopus", "flt", (48000, 24000, 16000, 12000, 8000), 192_000),
}


@dataclass(frozen=True)
class Container:
    """A kind of file; the first of its codecs is the one it gets unless another is asked for."""

    name: str
    codecs: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


# The index in front lets a browser show the file while it loads; free tags keep a ComfyUI workflow in the file.
_MOVFLAGS = (("movflags", "faststart+use_metadata_tags"),)
CONTAINERS = {
    ".mp4": Container("mp4", ("aac", "flac", "opus", "pcm"), _MOVFLAGS),
    ".mov": Container("mov", ("aac", "pcm"), _MOVFLAGS),
    ".webm": Container("webm", ("opus",)),
    ".mkv": Container("matroska", ("flac", "aac", "opus", "pcm")),  # takes any picture, so it keeps the sound exactly too
}


def container_for(path: Path) -> Container:
    """InputError for a suffix that is none of ours."""
    if path.suffix.lower() not in CONTAINERS:
        raise InputError(
            f"The video was to be written as {path.name}.",
            f"The name must end in {', '.join(CONTAINERS)}.",
            "Change the suffix.",
        )
    return CONTAINERS[path.suffix.lower()]


def codec_for(path: Path, name: str | None = None, rate: int | None = None) -> Codec:
    """The codec `name` ("aac", "flac", "pcm", "opus"; None: the file's own), InputError where the file or it says no."""
    held = container_for(path).codecs
    if name is not None and name not in held:
        takers = [suffix for suffix, kind in CONTAINERS.items() if name in kind.codecs]
        raise InputError(
            f"The sound was to be coded as {name!r} in {path.name}.",
            f"{path.suffix} files hold {', '.join(held)}.",
            f"Choose one of these, or write a {' or '.join(takers)} file." if takers else "Choose one of these.",
        )
    name = name or held[0]
    codec = CODECS[name]
    if rate is not None and codec.rates and rate not in codec.rates:
        raise InputError(
            f"The sound was to be coded as {name} at {rate} Hz.", f"It takes {', '.join(map(str, codec.rates))} Hz.",
            f"Choose one of these rates, or a codec that takes any in place of {name}: flac or pcm.",
        )
    return codec


def rate_for(codec: Codec, sample_rate: int) -> int:
    """The rate to write sound of `sample_rate` at when nobody asked for one."""
    return int(sample_rate) if not codec.rates or sample_rate in codec.rates else DEFAULT_RATE


@cache
def held_by(container_name: str) -> frozenset[str]:
    """FFmpeg's names of the codecs that a container may hold."""
    with av.open(io.BytesIO(), "w", format=container_name) as container:
        return frozenset(container.supported_codecs)


def suffix_for(source, codec: str | None = None) -> str:
    """The suffix of the file that `mux` can put this picture into: the source's own kind where possible.

    Args:
        codec: of the sound, where it matters ("flac" for a WebM picture needs Matroska).

    MediaError if the source holds no picture.
    """
    with open_source(source) as container:
        picture = picture_stream(container, source).codec_context.codec.canonical_name
        names = container.format.name.split(",")
        own = ".mov" if container.metadata.get("major_brand", "").strip() == "qt" else ".mp4"
        if "webm" in names:
            own = ".webm"
    takes_sound = [s for s in (own, ".mp4", ".mov") if codec is None or codec in CONTAINERS[s].codecs]
    return next((s for s in takes_sound if picture in held_by(CONTAINERS[s].name)), ".mkv")
