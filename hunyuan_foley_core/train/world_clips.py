"""Clips of the small world with their captions, as the small encoders train on them."""

from dataclasses import dataclass

import torch

from ..conditions import DEFAULT_NEGATIVE_PROMPT, with_bandwidth_tag
from ..data import make_clip
from ..data.actions import make_scene
from ..data.captions import caption
from ..encoders.preprocess import siglip2_pixels
from .bandwidth import WIDE_BAND, bandwidth
from .config import at_least
from .loop import Batch, seeded


@dataclass(frozen=True)
class WorldConfig:
    """Which clips.

    Attributes:
        first_seed: of the clips trained on; those held out have the seeds below it.
        clips, held_out: how many there are.
        seconds: length of each.
        pictures: of each, evenly over its length.
        batch: clips in a batch.
    """

    first_seed: int
    clips: int
    held_out: int
    seconds: float
    pictures: int
    batch: int

    def __post_init__(self):
        at_least(self, "data", 1, "clips", "held_out", "pictures", "batch")
        at_least(self, "data", self.held_out, "first_seed")


class WorldClips:
    """Batches {"waveform": [B,N], "picture": uint8 [B,3,S,S], "captions", "names"} of clips made once and kept; the same for
    the same number. The picture is one of the clip's, as SigLIP2 gets it, every other time mirrored.

    Args:
        size: S.
    """

    def __init__(self, config: WorldConfig, seeds: range, size: int):
        clips = [make_clip(seed, config.seconds) for seed in seeds]
        self.waveforms = torch.stack([clip.waveform for clip in clips])
        times = [(place + 0.5) / config.pictures * config.seconds for place in range(config.pictures)]
        self.pictures = torch.stack([
            siglip2_pixels(torch.stack([clip.frame(time) for time in times]), size) for clip in clips
        ])
        self.captions = [
            with_bandwidth_tag(clip.caption) if bandwidth(clip.waveform) > WIDE_BAND else clip.caption for clip in clips
        ]
        self.seeds, self.batch = seeds, config.batch

    def __call__(self, number: int) -> Batch:
        generator = seeded(self.seeds[0], number)
        chosen = torch.randint(len(self.seeds), (self.batch,), generator=generator)
        shown = torch.randint(self.pictures.shape[1], (self.batch,), generator=generator)
        mirrored = torch.rand(self.batch, generator=generator) < 0.5
        pictures = self.pictures[chosen, shown]
        return {
            "waveform": self.waveforms[chosen],
            "picture": torch.where(mirrored[:, None, None, None], pictures.flip(-1), pictures),
            "captions": [self.captions[index] for index in chosen.tolist()],
            "names": [f"seed {self.seeds[index]}" for index in chosen.tolist()],
        }


def captions(seeds: range) -> list[str]:
    """What the clips of many seeds may be captioned, at several lengths, with and without the bandwidth tag."""
    plain = [caption(make_scene(seed, seconds)) for seed in seeds for seconds in (2.0, 4.0)]
    return [*plain, *(with_bandwidth_tag(text) for text in plain), DEFAULT_NEGATIVE_PROMPT]
