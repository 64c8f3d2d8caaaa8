"""The LoRAs of a run where ComfyUI looks for them: the newest checkpoint under the run's name, those before with their step.

Files of these names may be somebody's own. Only what the run is known to have put there is ever replaced.
"""

import filecmp
import json
import os
import shutil
from pathlib import Path

from ..errors import InputError
from ..whole_files import whole
from . import checkpoints
from .errors import TrainingError

RECORD = "published.json"  # in the run's folder: size and time of what was published, by file name


def check_names(run: Path, folder: Path) -> None:
    """Refuses a run whose files would have the name of a file in `folder` that is not its own.

    Raises:
        InputError: it names the first of them.
    """
    steps = sorted(folder.glob(f"{run.name}_step*.safetensors"))
    numbered = [path for path in steps if path.stem.removeprefix(f"{run.name}_step").isdecimal()]
    for path in (folder / f"{run.name}.safetensors", *numbered):
        if os.path.lexists(path) and not _made_by(run, path):
            raise InputError(
                f"There is a LoRA {path.name} that no run in {run} has made.", "Expected a new name.",
                "Choose another name, or move that file away.",
            )


def publish(run: Path, folder: Path) -> None:
    """Copies the checkpoints of a run to `folder`.

    Raises:
        TrainingError: a file cannot be written, or is not the run's own; the others are.
    """
    written, foreign = checkpoints.found(run), []
    for checkpoint in written:
        ending = "" if checkpoint == written[-1] else f"_step{int(checkpoint.name.rpartition('-')[2])}"
        target = folder / f"{run.name}{ending}.safetensors"
        if os.path.lexists(target) and not _made_by(run, target):
            foreign.append((checkpoint, target))
        else:
            _copy(run, checkpoint, target)
    if foreign:
        checkpoint, target = foreign[0]
        raise TrainingError(
            f"There is a LoRA {target} that the run has not made.", "It is left as it is.",
            f"What was learned is kept in {checkpoint}; move the other file away and queue the node again.",
        )


def _made_by(run: Path, path: Path) -> bool:
    """Whether a file is as the run has put it there: by its record, or by what is in it."""
    written = checkpoints.found(run)
    if not written or not path.is_file():
        return False
    if _record(run).get(path.name) == _stamp(path):
        return True
    # Copied elsewhere and back, or published before there were records.
    kept = (checkpoint / checkpoints.WEIGHTS for checkpoint in written)
    return any(weights.is_file() and filecmp.cmp(weights, path, shallow=False) for weights in kept)


def _copy(run: Path, checkpoint: Path, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target, suffix="") as temporary:
            shutil.copyfile(checkpoint / checkpoints.WEIGHTS, temporary)
        record = _record(run) | {target.name: _stamp(target)}
        (run / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
    except OSError as error:
        raise TrainingError(
            f"The LoRA cannot be written to {target}: {error}.", "Expected a folder that may be written to, with room.",
            f"It is kept in {checkpoint}; make room and queue the node again.",
        ) from error


def _record(run: Path) -> dict[str, list[int]]:
    """Empty where there is none, or one that a full disk cut short."""
    try:
        return json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _stamp(path: Path) -> list[int]:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
