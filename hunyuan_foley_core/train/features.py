"""Batches of cached clips by number, for the flow-matching objective."""

import logging
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..timing import LATENT_RATE, MAX_SECONDS, SEGMENT_FRAMES, SYNC_RATE, latent_frames
from ..vae import DACVAE
from .clips import vae_digest
from .config import at_least
from .errors import TrainingError
from .loop import Batch, seeded
from .pieces import cut, starts
from .shards import Cache, Place, Record, check_identity, counted, open_cache, open_shard
from .spectral_latents import spectral_name

logger = logging.getLogger(__name__)

OPEN_SHARDS = 256
STACKED = ("mean", "logvar", "visual", "sync", "teacher")
NEARLY = 10  # latent frames that a clip may lack of a length for its absence to be a surprise


@dataclass(frozen=True)
class FeatureConfig:
    """Which cached clips, and how many at a time.

    Attributes:
        cache: folder that `prepare` made.
        held_out: how many videos are kept for validation, with all their clips.
        batch: clips in a batch.
        seconds: lengths of the pieces that training sees, drawn evenly; clips are cut where a sync segment begins, so that
            one clip shows its events at many places. A clip counts where it has all of a length: a video of 2 s may have
            49 pictures at 25 fps, which is 1.96 s. Empty: clips as they are, which validation always has.
    """

    cache: str
    held_out: int
    batch: int
    seconds: tuple[float, ...] = ()

    def __post_init__(self):
        at_least(self, "data", 0, "held_out")
        at_least(self, "data", 1, "batch")
        least = SEGMENT_FRAMES / SYNC_RATE
        if any(not least <= length <= MAX_SECONDS for length in self.seconds):
            raise TrainingError(
                f"data.seconds is {list(self.seconds)}.", f"Expected lengths of {least:g} to {MAX_SECONDS:g} s, or none.",
                "Change it.",
            )


@dataclass(frozen=True)
class FeatureSizes:
    """Widths of what a cache holds; `teacher` is None where it was made without one."""

    latent_channels: int
    visual_dim: int
    sync_dim: int
    text_dim: int
    teacher: int | None


class CachedClips:
    """Batches of random clips; the same for the same number.

    All clips of a batch have the same shapes. A shape is drawn as often as clips have it, and clips of it without
    repetition (unless there are fewer than a batch needs), so that every clip is equally likely.
    Shards are mapped, so memory does not grow with the cache.

    A batch is {"mean", "logvar": [B,C,L], "visual": [B,V,Dv], "sync": [B,S,Ds], "text": [B,T,Dt], "empty_text": [1,T,Dt],
    "names"}, and "teacher": [B,F,Dw] if the cache has it, in float32. T is the longest caption's, as if all of them had
    been encoded together.

    Attributes:
        identity: of the networks that the cache was made with.
    """

    def __init__(
        self, cache: Cache, clips: list[tuple[Record, Place]], batch: int, seed: int, seconds: tuple[float, ...] = ()
    ):
        self.clips, self.batch, self.seed = clips, batch, seed
        self.identity, self.empty_text = cache.identity, cache.empty_text()
        by_shape = defaultdict(list)
        for index, (record, _) in enumerate(clips):
            by_shape[tuple((name, *record.shapes[name]) for name in STACKED if name in record.shapes)].append(index)
        self.buckets = list(by_shape.values())
        self.weights = torch.tensor([len(bucket) for bucket in self.buckets], dtype=torch.float64)
        self.open_shard = lru_cache(OPEN_SHARDS)(open_shard)
        self.lengths = [latent_frames(length) for length in seconds]
        self.long_enough = [[index for index, (record, _) in enumerate(clips) if starts(record.shapes, length)]
                            for length in self.lengths]
        if not all(self.long_enough):
            shortest = min(length for length, found in zip(seconds, self.long_enough) if not found)
            raise TrainingError(
                f"No clip of the cache has the {shortest:g} s of data.seconds.", "Expected one for each length at least.",
                "Leave that length out, or prepare longer clips.",
            )
        self.warn_of_nearly(dict(zip(self.lengths, seconds)))

    def warn_of_nearly(self, lengths: dict[int, float]) -> None:
        """Says so where many clips are left out of a length for the sake of a moment, and no other length takes them.

        Args:
            lengths: in seconds, by latent frames.
        """
        whole = [record.shapes["mean"][1] for record, _ in self.clips]
        missed = [count for count in whole if not any(0 <= count - frames <= NEARLY for frames in lengths)]
        for frames, seconds in lengths.items():
            lacking = [count for count in missed if 0 < frames - count <= NEARLY]
            if len(lacking) > len(whole) // 10:
                logger.warning(
                    "%d of %d clips are a little shorter than the %g s of data.seconds and count for less; %g would take them.",
                    len(lacking), len(whole), seconds, min(lacking) / LATENT_RATE,
                )

    def __call__(self, number: int) -> Batch:
        generator = seeded(self.seed, number)
        if self.lengths:
            return self.pieces(generator)
        bucket = self.buckets[int(torch.multinomial(self.weights, 1, generator=generator))]
        drawn = [self.read(bucket[at]) for at in _draw(len(bucket), self.batch, generator)]
        return self.collate(drawn)

    def pieces(self, generator: torch.Generator) -> Batch:
        """A batch of one of the lengths, each piece from anywhere in a clip."""
        which = int(torch.randint(len(self.lengths), (), generator=generator))
        length, candidates = self.lengths[which], self.long_enough[which]
        drawn = []
        for at in _draw(len(candidates), self.batch, generator):
            record, tensors = self.read(candidates[at])
            segment = int(torch.randint(starts(record.shapes, length), (), generator=generator))
            drawn.append((record, cut(tensors, segment, length)))
        return self.collate(drawn)

    def read(self, index: int) -> tuple[Record, dict[str, Tensor]]:
        record, place = self.clips[index]
        shard = self.open_shard(place.shard)
        return record, {name: shard.get_tensor(f"{place.number}.{name}").float() for name in record.shapes}

    def collate(self, clips: list[tuple[Record, dict[str, Tensor]]]) -> Batch:
        longest = max(len(self.empty_text) - 1, *(record.tokens for record, _ in clips))
        names = clips[0][0].shapes.keys() & set(STACKED)
        return {name: torch.stack([tensors[name] for _, tensors in clips]) for name in STACKED if name in names} | {
            "text": torch.stack([pad_text(tensors["text"], longest) for _, tensors in clips]),
            "empty_text": pad_text(self.empty_text, longest)[None],
            "names": [record.name for record, _ in clips],
        }

    @property
    def sizes(self) -> FeatureSizes:
        shapes = self.clips[0][0].shapes
        teacher = shapes["teacher"][1] if "teacher" in shapes else None
        return FeatureSizes(shapes["mean"][0], shapes["visual"][1], shapes["sync"][1], shapes["text"][1], teacher)


def pad_text(text: Tensor, length: int) -> Tensor:
    """Features [T,D] whose last row is padding's, at `length` rows."""
    return torch.cat((text[:length], text[-1:].expand(max(0, length - len(text)), -1)))


def split(config: FeatureConfig, seed: int, vae: DACVAE | None = None) -> tuple[CachedClips, CachedClips | None]:
    """Training batches, and validation batches of videos that training never sees (None: nothing held out).

    Args:
        vae: the DAC-VAE that previews are decoded with, which has to be the one whose latents are in the cache.

    Raises:
        TrainingError: no cache, one of another DAC-VAE, or too few videos in it to hold out so many.
    """
    cache = open_cache(Path(config.cache))
    # Spectral latents are the same for every DAC-VAE of so many channels that was trained towards them.
    if vae is not None and cache.identity["vae"] != spectral_name(vae.config.latent_channels):
        check_identity(cache, {"vae": vae_digest(vae)})
    videos = sorted({record.video for record, _ in cache.clips.values()})
    if not config.held_out < len(videos):
        raise TrainingError(
            f"{config.cache} has clips of {len(videos)} videos.",
            f"Expected more than the {config.held_out} to hold out.", "Lower data.held_out, or prepare more clips.",
        )
    order = torch.randperm(len(videos), generator=seeded(seed)).tolist()
    held_out = {videos[index] for index in order[: config.held_out]}
    clips = sorted(cache.clips.values(), key=lambda clip: (clip[0].key, clip[0].start))
    training = [clip for clip in clips if clip[0].video not in held_out]
    validation = [clip for clip in clips if clip[0].video in held_out]
    return (
        CachedClips(cache, training, config.batch, seed, config.seconds),
        CachedClips(cache, validation, config.batch, seed) if validation else None,
    )


def described(*sources: CachedClips | None) -> str:
    """The clips of all sources together, as the settings of a run keep them."""
    clips = [record for source in sources if source is not None for record, _ in source.clips]
    return counted([(record.key, record.start, record.state) for record in clips])


def _draw(count: int, batch: int, generator: torch.Generator) -> list[int]:
    """`batch` numbers below `count`, none twice if there are enough."""
    if count < batch:
        return torch.randint(count, (batch,), generator=generator).tolist()
    return torch.randperm(count, generator=generator)[:batch].tolist()
