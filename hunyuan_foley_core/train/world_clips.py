"""Clips of the small world as the small encoders train on them: pixels as inference would see them, sound, caption."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .. import media
from ..conditions import DEFAULT_NEGATIVE_PROMPT, with_bandwidth_tag
from ..data import Clip, make_clip
from ..data.actions import make_scene
from ..data.captions import caption as make_caption
from ..encoders.preprocess import siglip2_pixels, synchformer_pixels
from ..timing import SAMPLE_RATE, SYNC_RATE, VISUAL_RATE
from .bandwidth import WIDE_BAND, bandwidth
from .config import at_least
from .loop import Batch, seeded

FRAME_RATES = (12, 15, 24, 25, 30, 50, 60)
VISUAL_EVERY = 4  # of the frames at 8 fps one is kept: neighbours teach the same
SIZES = ((128, 128), (96, 128), (108, 192), (160, 120))


@dataclass(frozen=True)
class WorldConfig:
    """Which clips.

    Attributes:
        first_seed: of the clips trained on; those held out have the seeds below it.
        clips, held_out: how many there are.
        seconds: length of each.
        batch: clips in a batch.
    """

    first_seed: int
    clips: int
    held_out: int
    seconds: float
    batch: int

    def __post_init__(self):
        at_least(self, "data", 1, "clips", "held_out", "batch")
        at_least(self, "data", self.held_out, "first_seed")


@dataclass(frozen=True)
class Seen:
    """A clip as the encoders get it: uint8 pictures [V,3,S,S] at 2 fps and [F,3,S,S] at 25 fps, waveform [N], caption."""

    visual: Tensor
    sync: Tensor
    waveform: Tensor
    caption: str
    name: str


class WorldClips:
    """Batches of clips drawn once and kept; the same for the same number."""

    def __init__(self, seeds: range, seconds: float, batch: int, sizes: tuple[int, int]):
        self.clips = [look_at(_varied(seed, seconds), *sizes) for seed in seeds]
        self.batch, self.seed = batch, seeds[0]

    def __call__(self, number: int) -> Batch:
        chosen = torch.randint(len(self.clips), (self.batch,), generator=seeded(self.seed, number)).tolist()
        clips = [self.clips[index] for index in chosen]
        return {
            "visual": torch.stack([clip.visual for clip in clips]),
            "sync": torch.stack([clip.sync for clip in clips]),
            "waveform": torch.stack([clip.waveform for clip in clips]),
            "captions": [clip.caption for clip in clips],
            "names": [clip.name for clip in clips],
        }


def look_at(clip: Clip, siglip2_size: int, synchformer_size: int) -> Seen:
    """The frames of a clip that inference would choose, brought to the encoders' sizes."""
    seconds = len(clip.waveform) / SAMPLE_RATE
    visual, sync = (_held(media.select_frames(clip.times, rate), int(seconds * rate)) for rate in (VISUAL_RATE, SYNC_RATE))
    drawn = {index: clip.frame(clip.times[index])[None] for index in {*visual, *sync}}
    return Seen(
        torch.cat([siglip2_pixels(drawn[index], siglip2_size) for index in visual[::VISUAL_EVERY]]),
        torch.cat([synchformer_pixels(drawn[index], synchformer_size) for index in sync]),
        clip.waveform,
        with_bandwidth_tag(clip.caption) if bandwidth(clip.waveform) > WIDE_BAND else clip.caption,
        f"seed {clip.scene.seed}",
    )


def _held(frames: list[int], count: int) -> list[int]:
    """So many of them, the last one repeated: at some frame rates a clip's last picture comes too early for the last tick."""
    return (frames + frames[-1:] * count)[:count]


def captions(seeds: range) -> list[str]:
    """What the clips of many seeds may be captioned, at several lengths, with and without the bandwidth tag."""
    plain = [make_caption(make_scene(seed, seconds)) for seed in seeds for seconds in (2.0, 4.0)]
    return [*plain, *(with_bandwidth_tag(text) for text in plain), DEFAULT_NEGATIVE_PROMPT]


def _varied(seed: int, seconds: float) -> Clip:
    """The clip of a seed at a frame rate and picture size that depend on the seed."""
    rng = np.random.default_rng([seed, 6])
    return make_clip(seed, seconds, float(rng.choice(FRAME_RATES)), SIZES[rng.integers(len(SIZES))])
