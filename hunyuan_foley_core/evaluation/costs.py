"""What the model takes: seconds and bytes."""

import tempfile
import time
from dataclasses import fields
from pathlib import Path

import torch

from .. import media
from ..data import write_clip
from ..pipeline import ModelFiles, generate
from ..timing import SAMPLE_RATE
from .rows import Bench, Row
from .takes import FIRST_SEED, Take

LARGEST = 25e6  # bytes of all files together
_TIMED = Take(FIRST_SEED, seconds=4.0)


def speed_rows(bench: Bench) -> list[Row]:
    """One generation of 4 s from video file to video file, weights read from disk included; a second run of two."""
    clip, stages = _TIMED.clip(), {}
    with tempfile.TemporaryDirectory() as folder:
        silent, made = Path(folder) / "silent.mp4", Path(folder) / "made.mp4"
        write_clip(clip, silent)
        for _ in range(2):
            stages.clear()
            started = time.perf_counter()
            waveform = generate(
                bench.takes.files, bench.takes.settings(_TIMED, clip), silent,
                lambda stage, done, total: stages.update({stage: time.perf_counter() - started}),
            )
            media.mux(silent, waveform, SAMPLE_RATE, made)
            seconds = time.perf_counter() - started
    ends = ", ".join(f"{stage} until {end:.1f} s" for stage, end in stages.items())
    figure = f"{seconds:.1f} s on {torch.get_num_threads()} threads with {bench.takes.steps} steps ({ends})"
    return [Row("speed", "time of a 4-second clip, video file to video file", figure, values={"value": seconds})]


def size_rows(bench: Bench) -> list[Row]:
    sizes = {name: path.stat().st_size for name, path in _files(bench.takes.files).items()}
    total = sum(sizes.values())
    figure = f"{total / 1e6:.1f} MB ({', '.join(f'{name} {size / 1e6:.2f}' for name, size in sizes.items())})"
    return [Row("size", "all weights", figure, "at most 25 MB", total <= LARGEST, {"value": total, **sizes})]


def _files(files: ModelFiles) -> dict[str, Path]:
    found = {field.name: getattr(files, field.name) for field in fields(files)}
    return {name: path for name, path in found.items() if path is not None}
