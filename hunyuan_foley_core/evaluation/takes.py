"""Held-out clips given sound through the whole path: picture written to a file, the file and a prompt to the pipeline.

What was made is kept in a folder, so that a stopped evaluation takes up where it was.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch

from .. import media
from ..data import Clip, make_clip, write_clip
from ..pipeline import ModelFiles, Settings, generate
from ..timing import SAMPLE_RATE

FIRST_SEED = 900_000  # of what is scored; training stays below LISTENING_SEED
LISTENING_SEED = 800_000  # of the true sounds that the judge of materials has heard
SECONDS = 2.0
_SOURCE = "source.mp4"


@lru_cache(maxsize=4096)
def _scouted(seed: int, seconds: float, things: int) -> Clip:
    # Without its sound a clip is small enough to keep thousands of.
    return replace(make_clip(seed, seconds, things=things), waveform=torch.zeros(0))


@dataclass(frozen=True)
class Take:
    """A clip of the small world, and how sound is asked for.

    Attributes:
        seed: of the clip and of the noise that its sound is made from.
        seconds, fps, size, look, things: see `data.make_clip`.
        tag: whether the prompt has the bandwidth tag; None: where the clip's own sound is of full band, as in training.
    """

    seed: int
    seconds: float = SECONDS
    fps: float = 25.0
    size: tuple[int, int] = (128, 128)
    look: str = "full"
    things: int = 1
    tag: bool | None = None

    def clip(self) -> Clip:
        return make_clip(self.seed, self.seconds, self.fps, self.size, look=self.look, things=self.things)

    def scouted(self) -> Clip:
        """The clip as to what happens and is said in it, without its sound."""
        return _scouted(self.seed, self.seconds, self.things)

    @property
    def name(self) -> str:
        tag = {None: "own", True: "tag", False: "none"}[self.tag]
        size = f"{self.size[1]}x{self.size[0]}"
        return f"{self.seed}-{self.seconds:g}s-{self.fps:g}fps-{size}-{self.look}-{self.things}-{tag}"


def first(number: int, begin: int = FIRST_SEED, *, where: Callable[[Clip], bool] | None = None, **how) -> list[Take]:
    """So many takes from seed `begin` on, of the clips for which `where` holds."""
    takes = (Take(seed, **how) for seed in count(begin))
    return list(islice((take for take in takes if where is None or where(take.scouted())), number))


class Takes:
    """Makes the sound of takes, or finds it where an earlier run kept it.

    Args:
        files: the networks.
        folder: where sounds are kept, below a name that follows from the weights and the number of steps.
    """

    def __init__(self, files: ModelFiles, folder: Path, steps: int):
        self.files, self.steps = files, steps
        self.folder = folder / f"{identity(files)}-{steps}"

    def path(self, take: Take) -> Path:
        return self.folder / f"{take.name}.flac"

    def missing(self, takes: Iterable[Take]) -> list[Take]:
        """Those that are not made yet, each once."""
        return [take for take in dict.fromkeys(takes) if not self.path(take).is_file()]

    def make(self, take: Take) -> None:
        """Writes the sound of a take, as long as the pipeline makes it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        clip = take.clip()
        with tempfile.TemporaryDirectory() as folder:
            video = Path(folder) / _SOURCE
            write_clip(clip, video)
            waveform = generate(self.files, self.settings(take, clip), video)
        media.write_audio(self.path(take), waveform, SAMPLE_RATE)

    def settings(self, take: Take, clip: Clip) -> Settings:
        tag = clip.tagged if take.tag is None else take.tag
        return Settings(prompt=clip.caption, tag=tag, seed=take.seed, steps=self.steps)

    def heard(self, takes: Iterable[Take]) -> Iterator[tuple[Clip, np.ndarray]]:
        """Each clip with the sound made for it, [N] at 48 kHz."""
        for take in takes:
            waveform, _ = media.read_audio(self.path(take))
            yield take.clip(), waveform[0].numpy()


def identity(files: ModelFiles) -> str:
    """A short name that follows from what the files hold."""
    digest = hashlib.sha256()
    for field in fields(files):
        path = getattr(files, field.name)
        if path is not None:
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
    return digest.hexdigest()[:12]
