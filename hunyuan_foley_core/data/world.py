"""Clips of the small world: picture, sound, caption, and the truth about them."""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import numpy as np
import torch

from .. import media
from ..errors import InputError
from ..timing import SAMPLE_RATE
from .actions import MOST_THINGS, make_scene
from .captions import caption
from .plain import PlainRenderer
from .render import Renderer
from .scene import Event, Scene
from .sound import scene_sound

BAND_LIMITED_SHARE = 1 / 3
LOOKS = ("full", "neutral", "plain")
_SMALLEST = 16  # pixels


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip; its frames are drawn when asked for.

    Attributes:
        fps: frames per second.
        size: height and width of a frame.
        waveform: float32 [N] at 48 kHz, within -1..1.
        caption: without any bandwidth tag.
        tagged: whether the sound reaches above 16 kHz, so that its caption is to carry the tag.
        scene: what happens; together with `events` the truth, for scoring only.
        look: one of LOOKS.
    """

    fps: float
    size: tuple[int, int]
    waveform: torch.Tensor
    caption: str
    tagged: bool
    scene: Scene
    look: str = "full"

    @property
    def events(self) -> tuple[Event, ...]:
        """All hits, in order of time."""
        return self.scene.events

    @property
    def silent(self) -> bool:
        """Whether nothing but the room is heard."""
        return self.scene.silent

    @property
    def times(self) -> np.ndarray:
        """Seconds at which the frames are taken; at least one."""
        return np.arange(max(round(self.scene.seconds * self.fps), 1)) / self.fps

    @cached_property
    def _renderer(self) -> Renderer | PlainRenderer:
        if self.look == "plain":
            return PlainRenderer(self.scene, self.size)
        return Renderer(self.scene, self.size, neutral=self.look == "neutral")

    def frame(self, time: float) -> torch.Tensor:
        """uint8 [3, height, width] at any moment in seconds."""
        return torch.from_numpy(self._renderer.frame(time))

    def frames(self) -> Iterator[torch.Tensor]:
        """Every frame, uint8 [3, height, width]."""
        return (self.frame(time) for time in self.times)


def make_clip(
    seed: int, seconds: float, fps: float = 25.0, size: tuple[int, int] = (128, 128), *, look: str = "full",
    things: int = MOST_THINGS,
) -> Clip:
    """The clip of a seed. Its scene, sound and caption depend on `seed`, `seconds` and `things` alone.

    Args:
        seed: 0 or more.
        size: height and width in pixels.
        look: "full"; "neutral", where all materials are painted the same, so that only the caption tells them apart;
            or "plain", flat shapes on one colour from another renderer.
        things: how many act at most, 1 to 3.
    """
    _check(seed, seconds, fps, size, look, things)
    scene = make_scene(seed, float(seconds), things)
    band_limited = np.random.default_rng([seed, 5]).random() < BAND_LIMITED_SHARE
    waveform = torch.from_numpy(scene_sound(scene, band_limited))
    return Clip(float(fps), tuple(size), waveform, caption(scene), not band_limited, scene, look)


def write_clip(clip: Clip, path) -> None:
    """Write a clip to look at and listen to: H.264 with AAC at `path`, and the exact sound beside it as .wav.

    InputError for odd sizes, which H.264 does not take; MediaError if the files cannot be written.
    """
    path = Path(path)
    check_even(clip.size)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.mp4"
        write_picture(clip, picture)
        media.mux(picture, clip.waveform[None], SAMPLE_RATE, path)
    media.write_audio(path.with_suffix(".wav"), clip.waveform[None], SAMPLE_RATE)


def write_sounds(folder, seeds: Iterable[int], seconds: float) -> None:
    """Write the sounds alone, as FLAC named by seed, to train a codec on; those already there are kept."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        path = folder / f"{seed:08d}.flac"
        if not path.exists():
            media.write_audio(path, make_clip(seed, seconds).waveform[None], SAMPLE_RATE)


def check_even(size: tuple[int, int]) -> None:
    """InputError unless both sides are even, as H.264 has to have them."""
    if size[0] % 2 or size[1] % 2:
        raise InputError(f"The frames are {size[1]} x {size[0]}.", "H.264 takes even sizes.", "Add a pixel.")


def write_picture(clip: Clip, path: Path, preset: str = "fast") -> None:
    """The frames alone; see `write_frames`."""
    write_frames(clip.frames(), clip.fps, clip.size, path, preset)


def write_frames(
    frames: Iterable[torch.Tensor], fps: float, size: tuple[int, int], path: Path, preset: str = "fast"
) -> None:
    """Frames uint8 [3,H,W] as H.264; "ultrafast" takes half the time and twice the room of "fast"."""
    rate = Fraction(fps).limit_denominator(1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": preset})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = 1 / rate
        stream.codec_context.thread_count = 1  # frames as small as ours are coded sooner without others
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image.permute(1, 2, 0).contiguous().numpy(), format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _check(seed: int, seconds: float, fps: float, size: tuple[int, int], look: str, things: int) -> None:
    if seed < 0 or not (0.1 <= seconds < float("inf")) or not (0 < fps < float("inf")) or min(size) < _SMALLEST:
        raise InputError(
            f"A clip was asked for with seed {seed}, {seconds} s, {fps} frames/s and {size} pixels.",
            f"The seed must not be negative, the length at least 0.1 s, the rate above 0, sides at least {_SMALLEST}.",
            "Change what lies outside.",
        )
    if look not in LOOKS:
        raise InputError(f"A clip was to look {look!r}.", f"Known looks are {', '.join(LOOKS)}.", "Choose one of them.")
    if not 1 <= things <= MOST_THINGS:
        raise InputError(
            f"A clip was asked for in which {things} things act at most.", f"Expected 1 to {MOST_THINGS}.", "Change the number."
        )
