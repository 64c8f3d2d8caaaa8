"""Sounds of the small world with their captions, as the small text encoder trains on them."""

from dataclasses import dataclass

import torch

from ..conditions import DEFAULT_NEGATIVE_PROMPT, with_bandwidth_tag
from ..data import make_clip
from ..data.actions import make_scene
from ..data.captions import caption
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


class WorldSounds:
    """Batches {"waveform": [B,N], "captions", "names"} of clips made once and kept; the same for the same number."""

    def __init__(self, seeds: range, seconds: float, batch: int):
        clips = [make_clip(seed, seconds) for seed in seeds]
        self.waveforms = torch.stack([clip.waveform for clip in clips])
        self.captions = [
            with_bandwidth_tag(clip.caption) if bandwidth(clip.waveform) > WIDE_BAND else clip.caption for clip in clips
        ]
        self.seeds, self.batch = seeds, batch

    def __call__(self, number: int) -> Batch:
        chosen = torch.randint(len(self.seeds), (self.batch,), generator=seeded(self.seeds[0], number)).tolist()
        return {
            "waveform": self.waveforms[chosen],
            "captions": [self.captions[index] for index in chosen],
            "names": [f"seed {self.seeds[index]}" for index in chosen],
        }


def captions(seeds: range) -> list[str]:
    """What the clips of many seeds may be captioned, at several lengths, with and without the bandwidth tag."""
    plain = [caption(make_scene(seed, seconds)) for seed in seeds for seconds in (2.0, 4.0)]
    return [*plain, *(with_bandwidth_tag(text) for text in plain), DEFAULT_NEGATIVE_PROMPT]
