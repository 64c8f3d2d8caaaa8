"""The table, for reading and for programs."""

import json
import math
from dataclasses import asdict
from typing import Any

from .rows import Row

_MARKS = {True: "yes", False: "NO", None: "-"}


def as_markdown(rows: list[Row], about: dict[str, Any]) -> str:
    """A table with a line above it for each of what it is `about`."""
    lines = [f"{name}: {_plain(value)}  " for name, value in about.items()]
    lines += ["", "| row | what | figure | target | met |", "|---|---|---|---|---|"]
    lines += [f"| {row.name} | {row.what} | {row.figure} | {row.target or 'reported'} | {_MARKS[row.passed]} |" for row in rows]
    return "\n".join(lines) + "\n"


def as_json(rows: list[Row], about: dict[str, Any]) -> str:
    """An object {"about", "rows"}; figures that do not exist are null."""
    return json.dumps(without_nan({"about": about, "rows": [asdict(row) for row in rows]}), indent=1) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items() if item is not None)
    return str(value)


def without_nan(value: Any) -> Any:
    """Nested lists and objects with None for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
