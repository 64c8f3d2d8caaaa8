"""From clips to a cache of latents and features that training reads instead of videos. A stopped build goes on."""

import hashlib
import logging
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import media
from ..errors import FoleyError
from ..pipeline import ModelFiles
from ..timing import MAX_SECONDS, SEGMENT_FRAMES, SYNC_RATE
from .clips import Encoders, encode_caption, encode_clip, identity, load_encoders
from .errors import TrainingError
from .loop import deferred_interrupts
from .manifest import Entry
from .shards import MARK, Cache, Record, ShardWriter, check_identity, create_cache, open_cache

logger = logging.getLogger(__name__)

SHARD_CLIPS = 64

Callback = Callable[[float, float], None]


@dataclass
class CacheReport:
    """What a build did.

    Attributes:
        folder: the cache.
        made, kept: clips encoded now, and those that were there.
        skipped: name and reason of what could not be used.
        warnings: sentences about what was used but is not whole.
    """

    folder: Path
    made: int = 0
    kept: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def build_cache(
    entries: Iterable[Entry], files: ModelFiles, folder: Path, *,
    teacher: Any | None = None, spectral: bool = False, device: str = "cpu", seconds: float | None = None,
    renew: bool = False, callback: Callback | None = None,
) -> CacheReport:
    """Encodes the clips that a cache lacks, and those whose files or caption have changed.

    Args:
        entries: see `manifest.read_dataset`.
        files: the networks; the transformer is not needed.
        teacher: of `train.teachers`, whose features to keep for REPA; None: none.
        spectral: keep `spectral_latents` in place of what the DAC-VAE's encoder makes.
        seconds: length of the pieces that longer clips are cut into; None: 15 s, the most that the model reads.
        renew: make a cache of other networks anew, where it is refused otherwise.
        callback: called after each piece with (entries done, of), may raise to stop.

    Raises:
        TrainingError: the cache was made with other networks, no clip can be used, or it cannot be written.
        CheckpointError: a network is missing or damaged.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, with all that was encoded written.
    """
    entries, seconds = list(entries), MAX_SECONDS if seconds is None else seconds
    _check_seconds(seconds)
    cache = open_cache(folder) if (folder / MARK).is_file() else None
    encoders = load_encoders(files, teacher, device, spectral)
    wanted = identity(encoders) | {"seconds": float(seconds)}
    if cache is not None and renew and cache.identity != wanted:
        shutil.rmtree(folder)
        cache = None
    if cache is None:
        cache = create_cache(folder, wanted, encode_caption(encoders.clap, "")[0].half())
    check_identity(cache, wanted)
    builder = _Builder(encoders, cache, seconds)
    builder.run(entries, callback)
    report = builder.report
    if not report.made + report.kept:
        reasons = "".join(f" The first is {name}: {reason}" for name, reason in report.skipped[:1])
        raise TrainingError(
            f"None of the {len(entries)} clips can be used.{reasons}", "Expected videos with sound.", "Check the files."
        )
    return report


def _check_seconds(seconds: float) -> None:
    least = SEGMENT_FRAMES / SYNC_RATE
    if not least <= seconds <= MAX_SECONDS:
        raise TrainingError(
            f"Pieces were asked for of {seconds} s.", f"Expected {least:g} to {MAX_SECONDS:g} s.", "Change --seconds."
        )


class _Builder:
    """One build: what it reads from, writes to and tells."""

    def __init__(self, encoders: Encoders, cache: Cache, seconds: float):
        self.encoders, self.cache, self.seconds = encoders, cache, seconds
        self.writer, self.report = ShardWriter(cache.folder, SHARD_CLIPS), CacheReport(cache.folder)
        self.counts = Counter(key for key, _ in cache.clips)

    def run(self, entries: list[Entry], callback: Callback | None) -> None:
        try:
            with deferred_interrupts() as interrupts:
                for done, entry in enumerate(entries):
                    for share in self.add(entry):
                        if callback is not None:
                            callback(done + share, len(entries))
                        if interrupts:
                            raise KeyboardInterrupt(
                                f"Stopped after {self.report.made} new clips; the same command goes on from there."
                            )
        finally:
            self.writer.flush()

    def add(self, entry: Entry) -> Iterator[float]:
        """Encodes the pieces of an entry that the cache lacks; yields the share of the entry that is done."""
        key, state = f"{entry.video.resolve()}#{entry.take}", _state(entry)
        if self.cache.finished.get(key) == state:
            self.report.kept += self.counts[key]
            yield 1.0
            return
        starts, good = self.starts(entry), 0
        for number, start in enumerate(starts, 1):
            good += self.keep(key, state, start) or self.encode(entry, key, state, start)
            yield number / len(starts)
        if good:
            self.writer.finish(key, state)

    def starts(self, entry: Entry) -> list[float]:
        try:
            return piece_starts(media.probe(entry.video).duration, self.seconds)
        except FoleyError as error:
            self.skip(entry.name, error)
            return []

    def keep(self, key: str, state: str, start: float) -> bool:
        """Whether the cache has a piece, from a build that was stopped within the entry."""
        known = self.cache.clips.get((key, start))
        there = known is not None and known[0].state == state
        self.report.kept += there
        return there

    def encode(self, entry: Entry, key: str, state: str, start: float) -> bool:
        name = f"{entry.name} at {start:g} s" if start else entry.name
        reading = media.DecodeReport()
        try:
            encoded = encode_clip(self.encoders, entry, start, self.seconds, reading)
        except FoleyError as error:
            self.skip(name, error)
            return False
        shapes = {name: list(value.shape) for name, value in encoded.tensors.items()}
        record = Record(key, state, name, encoded.caption, start, encoded.bandwidth, encoded.tokens, shapes)
        self.writer.add(record, encoded.tensors)
        self.report.made += 1
        self.report.warnings += reading.warnings
        return True

    def skip(self, name: str, error: FoleyError) -> None:
        logger.info("Skipped %s: %s", name, error)
        self.report.skipped.append((name, error.reason()))


def piece_starts(duration: float | None, seconds: float) -> list[float]:
    """Where the pieces of a clip begin. What is left at the end, if half a piece or more, is had by one that overlaps.

    A clip of unknown duration gives one piece.
    """
    if duration is None or duration <= seconds:
        return [0.0]
    whole = int(duration / seconds + 1e-6)
    starts = [number * seconds for number in range(whole)]
    if duration - whole * seconds >= seconds / 2:
        starts.append(math.floor((duration - seconds) * SYNC_RATE) / SYNC_RATE)
    return starts


def _state(entry: Entry) -> str:
    """Changes with the files and the caption of an entry."""
    files = [(str(path), os.stat(path).st_size, os.stat(path).st_mtime_ns) if path.is_file() else (str(path),)
             for path in (entry.video.resolve(), entry.audio.resolve())]
    return hashlib.sha256(repr((files, entry.caption)).encode()).hexdigest()[:16]
