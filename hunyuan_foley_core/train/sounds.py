"""Pieces of the sounds in a folder, as batches by number."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from .. import media
from ..errors import MediaError
from ..places import files_below
from ..timing import SAMPLE_RATE
from .config import at_least
from .errors import TrainingError
from .loop import Batch, seeded

logger = logging.getLogger(__name__)

SUFFIXES = {".wav", ".flac", ".ogg", ".opus", ".mp3", ".m4a", ".aac", ".mp4", ".mov", ".mkv", ".webm", ".avi"}


@dataclass(frozen=True)
class SoundConfig:
    """Which sounds, and how much of them at a time.

    Attributes:
        folder: searched with its subfolders for sounds and for videos with sound.
        held_out: how many of the files are kept for validation.
        batch: pieces in a batch.
        frames: latent frames in a piece.
    """

    folder: str
    held_out: int
    batch: int
    frames: int

    def __post_init__(self):
        at_least(self, "data", 1, "batch", "frames")


@dataclass(frozen=True)
class Sound:
    """A file and how long it sounds, in seconds."""

    path: Path
    seconds: float


class Sounds:
    """Batches {"waveform": [B,1,N] at 48 kHz mono, "names"} of random pieces; the same for the same number.

    Files are read anew for each piece, so memory does not grow with the folder. A sound too short for it is followed
    by silence.
    """

    def __init__(self, files: list[Sound], batch: int, length: int, seed: int):
        self.files, self.batch, self.length, self.seed = files, batch, length, seed

    def __call__(self, number: int) -> Batch:
        generator = seeded(self.seed, number)
        pieces, names = [], []
        for index in torch.randint(len(self.files), (self.batch,), generator=generator).tolist():
            sound, seconds = self.files[index], self.length / SAMPLE_RATE
            start = float(torch.rand((), generator=generator)) * max(0.0, sound.seconds - seconds)
            pieces.append(read_piece(sound.path, start, self.length))
            names.append(f"{sound.path.name} at {start:.2f} s")
        return {"waveform": torch.stack(pieces), "names": names}


def read_piece(path: Path, start: float, length: int) -> torch.Tensor:
    """[1,N] of `length` samples at 48 kHz, mono, from `start` seconds on."""
    waveform, rate = media.read_audio(path, start=start, duration=length / SAMPLE_RATE)
    waveform = media.resample(media.to_mono(waveform), rate, SAMPLE_RATE)[:, :length]
    return F.pad(waveform, (0, length - waveform.shape[-1]))


def scan(folder: Path) -> list[Sound]:
    """The sounds below `folder`, in order of their paths; damaged or empty ones are left out, and named in the log.

    Raises:
        TrainingError: there is none.
    """
    paths = [path for path in files_below(folder) if path.suffix.lower() in SUFFIXES]
    found, broken = [], []
    for path in paths:
        try:
            waveform, rate = media.read_audio(path)
        except MediaError as error:
            broken.append(f"{path.name}: {error.found}")
            continue
        if waveform.shape[-1] and waveform.isfinite().all():
            found.append(Sound(path, waveform.shape[-1] / rate))
        else:
            broken.append(f"{path.name}: it is empty or not finite.")
    if broken:
        logger.warning("%d of %d files are left out:\n%s", len(broken), len(paths), "\n".join(broken))
    if not found:
        raise TrainingError(
            f"{folder} has no sound that can be read.", f"Expected files such as {', '.join(sorted(SUFFIXES)[:4])}.",
            "Check data.folder.",
        )
    return found


def split(config: SoundConfig, hop: int, seed: int) -> tuple[Sounds, Sounds | None]:
    """Training batches, and validation batches of files that training never hears (None: nothing held out).

    Raises:
        TrainingError: no sounds, or too few to hold out so many.
    """
    files = scan(Path(config.folder))
    if not 0 <= config.held_out < len(files):
        raise TrainingError(
            f"{config.folder} has {len(files)} sounds that can be read.",
            f"Expected more than the {config.held_out} to hold out.", "Lower data.held_out, or add sounds.",
        )
    order = torch.randperm(len(files), generator=seeded(seed)).tolist()
    length = config.frames * hop
    sources = [
        Sounds([files[i] for i in part], config.batch, length, seed) if part else None
        for part in (order[config.held_out :], order[: config.held_out])
    ]
    return sources[0], sources[1]
