"""The folders that ComfyUI's extra_model_paths.yaml adds, read as ComfyUI reads it, and what keeps ComfyUI from it."""

import os
from collections.abc import Iterator
from pathlib import Path

from .. import places

NAME = "extra_model_paths.yaml"
NAMES = tuple(name for first, others in places.MODEL_FOLDERS.items() for name in (first, *others))
BASE = "base_path"


def read(comfyui: Path | None) -> tuple[list[Path], list[str]]:
    """The folders in which our models may lie, whether they exist or not, and what is wrong with the file."""
    file = comfyui / NAME if comfyui else None
    if file is None or not file.is_file():
        return [], []
    try:
        sections = _sections(file)
    except _Unreadable as reason:
        return [], [f"{file} cannot be read: {reason}"]
    wrong = {name: problem for name, section in sections.items() if (problem := _problem(section)) is not None}
    whole = [section for name, section in sections.items() if name not in wrong]
    problems = [f"The section `{name}` of {file} {problem}" for name, problem in wrong.items()]
    return [path for section in whole for path in _folders(file.parent, section)], problems


class _Unreadable(Exception):
    """Why the file is no YAML with sections."""


def _sections(file: Path) -> dict:
    """By name; those that are empty are left out, as ComfyUI does."""
    try:
        import yaml
    except ModuleNotFoundError:  # it comes with ComfyUI
        return {}
    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except UnicodeDecodeError as error:
        raise _Unreadable(f"its byte {error.start:,} is not UTF-8. Save it in UTF-8.") from error
    except OSError as error:
        raise _Unreadable(f"{error.strerror}.") from error
    except yaml.YAMLError as error:
        raise _Unreadable(f"it is no YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(config, dict):
        raise _Unreadable("it holds no sections. Each has a name of your own, and folders below it.")
    return {name: section for name, section in config.items() if section is not None}


def _problem(section: object) -> str | None:
    """What ComfyUI would stumble over; None where that is nothing."""
    if not isinstance(section, dict):
        return f"is {section!r}. Expected names of model folders below it, each with a path."
    for key in (BASE, *NAMES):
        if key in section and not isinstance(section[key], str):
            return f"has {section[key]!r} for `{key}`. Expected a path."
    return None


def _folders(beside: Path, section: dict) -> Iterator[Path]:
    base = beside / os.path.expandvars(os.path.expanduser(section.get(BASE, "")))
    for name in NAMES:
        yield from (base / line.strip() for line in section.get(name, "").splitlines() if line.strip())
