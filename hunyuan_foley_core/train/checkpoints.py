"""Checkpoints of a run: a folder each, there whole or not at all.

`weights.safetensors` is the result so far, for use; `training.pt` holds what going on needs and loads without running
code.
"""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from .errors import TrainingError

WEIGHTS, TRAINING = "weights.safetensors", "training.pt"
RESUMABLE = 2  # checkpoints: the newest, and one in case that is damaged


def copies(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as they are now, on the CPU, each in memory of its own, as safetensors wants them."""
    return {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}


def save(
    folder: Path, step: int, weights: dict[str, Tensor], metadata: dict[str, str], training: dict[str, Any], keep: int
) -> Path:
    """Writes checkpoint `step` below `folder` and removes all but the `keep` newest.

    What going on needs, several times as large as the weights, stays in the newest and the one before.

    Args:
        weights: as from `copies`.

    Raises:
        TrainingError: it cannot be written; the older ones are untouched.
    """
    final = place(folder, step)
    temporary = folder / f".{final.name}.tmp"
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        save_file(weights, temporary / WEIGHTS, metadata)
        torch.save(training, temporary / TRAINING)
        if final.exists():
            shutil.rmtree(final)
        os.rename(temporary, final)
    except (OSError, RuntimeError, SafetensorError) as error:  # a full disk is any of them, by who notices
        raise TrainingError(
            f"The checkpoint of step {step} cannot be written to {folder}: {error}.",
            "Expected a folder that may be written to, with room.",
            "Make room and start the same command again; it goes on from the checkpoint before.",
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in found(folder)[:-keep]:
        shutil.rmtree(old)
    for old in found(folder)[:-RESUMABLE]:
        (old / TRAINING).unlink(missing_ok=True)
    return final


def place(folder: Path, step: int) -> Path:
    """Where checkpoint `step` of a run is or will be."""
    return folder / f"step-{step:08d}"


def found(folder: Path) -> list[Path]:
    """The checkpoints below `folder`, oldest first."""
    return sorted(folder.glob("step-" + "[0-9]" * 8))


def load(checkpoint: Path, mmap: bool = False) -> dict[str, Any]:
    """What `save` was given as `training`, on the CPU.

    Args:
        mmap: leave the tensors on the disk until they are used, for who wants the rest.
    """
    try:
        return torch.load(str(checkpoint / TRAINING), map_location="cpu", weights_only=True, mmap=mmap)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged or was cut short"
        raise TrainingError(
            f"The checkpoint {checkpoint} cannot be read: {reason}.", "Expected what an earlier run wrote.",
            "Delete this folder to go on from the checkpoint before it.",
        ) from error
