"""What the model takes: seconds and bytes."""

import tempfile
import time
from dataclasses import fields
from pathlib import Path

import torch

from .. import media
from ..data import Clip, write_clip
from ..pipeline import ModelFiles, generate
from ..timing import SAMPLE_RATE
from .rows import Bench, Row
from .takes import FIRST_SEED, Take, Takes

LARGEST = 25e6  # bytes of all files together
_TIMED = Take(FIRST_SEED, seconds=4.0)


def speed_rows(bench: Bench) -> list[Row]:
    """One generation of 4 s from video file to video file, weights read from disk included; the second run of two."""
    clip = _TIMED.clip()
    with tempfile.TemporaryDirectory() as folder:
        silent = Path(folder) / "silent.mp4"
        write_clip(clip, silent)
        _generate(bench.takes, clip, silent)
        ends = _generate(bench.takes, clip, silent)
    seconds = ends.pop("in all")
    stages = ", ".join(f"{stage} until {end:.1f} s" for stage, end in ends.items())
    figure = f"{seconds:.1f} s on {torch.get_num_threads()} threads with {bench.takes.steps} steps ({stages})"
    return [Row("speed", "time of a 4-second clip, video file to video file", figure, values={"value": seconds})]


def _generate(takes: Takes, clip: Clip, video: Path) -> dict[str, float]:
    """Seconds at which each stage ended, and all of it."""
    started, ends = time.perf_counter(), {}

    def ended(stage: str, *progress: float) -> None:
        ends[stage] = time.perf_counter() - started

    waveform = generate(takes.files, takes.settings(_TIMED, clip), video, ended)
    media.mux(video, waveform, SAMPLE_RATE, video.with_name("made.mp4"))
    ended("in all")
    return ends


def size_rows(bench: Bench) -> list[Row]:
    sizes = {name: path.stat().st_size for name, path in _files(bench.takes.files).items()}
    total = sum(sizes.values())
    figure = f"{total / 1e6:.1f} MB ({', '.join(f'{name} {size / 1e6:.2f}' for name, size in sizes.items())})"
    return [Row("size", "all weights", figure, "at most 25 MB", total <= LARGEST, {"value": total, **sizes})]


def _files(files: ModelFiles) -> dict[str, Path]:
    found = {field.name: getattr(files, field.name) for field in fields(files)}
    return {name: path for name, path in found.items() if path is not None}
