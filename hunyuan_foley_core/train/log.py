"""Figures of a run: one JSON object a line, and TensorBoard for who has it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..whole_files import whole
from .errors import TrainingError

METRICS, BOARD = "metrics.jsonl", "tensorboard"


class MetricsLog:
    """Appends to a file that has each update once: what a stopped run wrote beyond its checkpoint is dropped.

    Args:
        folder: of the run; made if need be.
        step: updates done so far.
        tensorboard: write the same for TensorBoard, below the folder.

    Raises:
        TrainingError: TensorBoard is wanted and not installed, or the folder cannot be written to.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool = False):
        self.path = folder / METRICS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.board = _board(folder / BOARD, step) if tensorboard else None
            kept = [line for line in read(self.path) if line["step"] <= step]
            with whole(self.path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        except OSError as error:
            raise unwritten("figures", folder, error) from error

    def write(self, step: int, figures: dict[str, Any]) -> None:
        """Records numbers, or dicts of them, by name.

        Raises:
            TrainingError: the disk is full, say.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step} | figures) + "\n")
        except OSError as error:
            raise unwritten("figures", self.path.parent, error) from error
        if self.board is not None:
            for name, value in _scalars(figures):
                self.board.add_scalar(name, value, step)
            self.board.flush()


def unwritten(what: str, folder: Path, error: OSError) -> TrainingError:
    """What is said of figures or previews that a run cannot write."""
    return TrainingError(
        f"The {what} of the run cannot be written to {folder}: {error}.",
        "Expected a folder that may be written to, with room.",
        "Make room and start the same command again, or choose another folder with out=...",
    )


def _board(folder: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            f"loop.tensorboard is true, and TensorBoard cannot be imported: {error}.",
            "It is not among what this package needs.", "Run `pip install tensorboard`, or say loop.tensorboard=false.",
        ) from error
    # What the stopped run wrote after its checkpoint is hidden there, too.
    return SummaryWriter(str(folder), purge_step=step + 1)


def _scalars(figures: dict[str, Any], group: str = "") -> Iterator[tuple[str, float]]:
    """Names as paths, which TensorBoard groups by their first part: that of a dict, or the phase in `phase.part`."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{group}{name}/")
        else:
            yield group + name if group else name.replace(".", "/", 1), value


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log up to one that a kill cut short; none if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
