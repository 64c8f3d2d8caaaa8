"""What may change between a checkpoint and the run that goes on from it."""

from pathlib import Path
from typing import Any

from .config import Settings, differences
from .errors import TrainingError

FIXED = ("task", "model", "lora")  # settings that say what the tensors in a checkpoint are
ASIDE = ("out", "device", "loop.keep")  # settings that nothing learned depends on


def compare(old: Settings, new: Settings, *, run: Path, done: int, steps: int, fits: bool = True) -> str:
    """A sentence on the settings that changed since a checkpoint; "" where none did.

    Args:
        old: as the checkpoint has them.
        run: folder of the run.
        done: updates that the checkpoint has seen.
        steps: updates that are asked for in all.
        fits: whether the weights have the same shapes.

    Raises:
        TrainingError: the checkpoint means nothing under the new settings, or no update is left that could follow them.
    """
    every = differences(old, new)
    if not fits or any(name.split(".")[0] in FIXED for name in every):
        raise TrainingError(
            f"The run in {run} was begun with other settings; changed: {_listed(every) or 'none known'}.",
            f"Going on needs the same {' and '.join(FIXED)}, and weights of the same shapes.",
            "Put these back, or choose another name (out=... on the command line).",
        )
    changed = {name: values for name, values in every.items() if name not in ASIDE and not _same(*values)}
    if changed and done >= steps:
        raise TrainingError(
            f"The run {run.name} is finished after {done} updates; these settings changed: {_listed(changed)}.",
            "Nothing would be learned under them.",
            "Raise steps to go on with them, or choose another name (out=... on the command line).",
        )
    return f"Going on after {done} updates with changed settings: {_listed(changed)}." if changed else ""


def _same(before: Any, after: Any) -> bool:
    """Whether a setting is new to one side, which says nothing of it, or a file that was moved and kept its name."""
    if before is None or after is None:
        return True
    if not isinstance(before, str) or not isinstance(after, str):
        return False
    return Path(before).name == Path(after).name and not Path(before).exists()


def _listed(changed: dict[str, tuple[Any, Any]]) -> str:
    return "; ".join(f"{name} from {before!r} to {after!r}" for name, (before, after) in changed.items())
