"""Frozen teachers for REPA: waveforms to features of frames that hidden states are aligned with."""

from pathlib import Path
from typing import Protocol

from torch import Tensor

from ..errors import TrainingError
from .atst import ATSTTeacher
from .log_mel import LogMelTeacher

TEACHERS = ("none", "log_mel", "atst")


class Teacher(Protocol):
    """What turns clean sound into features.

    Attributes:
        name: says what the features are; a cache of them is good for teachers of this name only.
        size: width of a frame's features.
    """

    name: str
    size: int

    def features(self, waveform: Tensor) -> Tensor:
        """Features [B,F,size] float32 on the CPU of waveforms [B,1,N] at 48 kHz, at the teacher's own frame rate."""


def build_teacher(name: str, path: str | Path | None = None, device: str = "cpu") -> Teacher | None:
    """The teacher of a name, None for "none".

    Args:
        path: of the checkpoint, for "atst".

    Raises:
        TrainingError: an unknown name, or no path where one is needed.
        CheckpointError: a file that does not hold this teacher.
    """
    if name == "none":
        return None
    if name == "log_mel":
        return LogMelTeacher(device)
    if name == "atst":
        if not path:
            raise TrainingError(
                "The teacher atst has no file.", "Expected the checkpoint of ATST-Frame base or small.",
                "Download it by the links in github.com/Audio-WestlakeU/audiossl and give its path.",
            )
        return ATSTTeacher(path, device)
    raise TrainingError(f"The teacher is {name!r}.", f"Known are {', '.join(TEACHERS)}.", "Change its name.")
