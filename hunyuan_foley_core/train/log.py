"""Figures of a run, one JSON object a line."""

import json
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends to a file that has each update once: what a stopped run wrote beyond its checkpoint is dropped.

    Args:
        path: the file; its folder is made.
        step: updates done so far.
    """

    def __init__(self, path: Path, step: int):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read(path) if line["step"] <= step]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def write(self, step: int, figures: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step} | figures) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log up to one that a kill cut short; none if there is no file."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines
