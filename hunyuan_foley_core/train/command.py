"""`train CONFIG [key=value ...]`: from a file of settings to a trained network."""

import sys
from pathlib import Path

from . import sharding
from .config import read_settings
from .errors import TrainingError
from .loop import Callback
from .tasks import TASKS

CONFIGS = Path(__file__).parent / "configs"


def run(config_file: str, overrides: list[str], callback: Callback | None = None) -> Path:
    """Runs the training a file describes; returns the folder of the last checkpoint.

    Args:
        config_file: a path, or the name of one of `configs/` without its suffix.
        overrides: `section.key=value` words laid over the file.

    Raises:
        TrainingError: settings or data that do not fit, or a run that cannot go on.
    """
    shipped = CONFIGS / f"{config_file}.toml"
    settings = read_settings(shipped if shipped.is_file() else Path(config_file), overrides)
    task = settings.get("task")
    if task not in TASKS:
        raise TrainingError(f"The task is {task!r}.", f"Known are {', '.join(TASKS)}.", "Set `task` in the file.")
    with sharding.processes(str(settings.get("device", "cpu"))):
        return TASKS[task](settings, callback)


class ProgressLine:
    """Update, share and losses on stderr: one line rewritten in place on a terminal, one per record elsewhere."""

    def __init__(self):
        self.live, self.shown = sys.stderr.isatty(), None

    def __call__(self, done: int, of: int, figures: dict[str, float]) -> None:
        if not self.live and figures == self.shown:
            return
        self.shown = figures
        losses = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name.endswith(".loss"))
        line = f"{done}/{of} {done / of:4.0%}  {losses}"
        sys.stderr.write(f"\r{line}" if self.live else f"{line}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self.live:
            sys.stderr.write("\n")
