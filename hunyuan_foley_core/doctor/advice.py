"""What to do about the findings: for each, the exact command."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import first_bytes, places
from ..errors import DamagedFileError, FoleyError, InputError, MissingFileError, MissingPackageError
from . import machine
from .machine import Machine
from .model_files import ModelFile
from .model_sets import ModelSet

WINDOWS = os.name == "nt"


@dataclass(frozen=True)
class Advice:
    """A finding and its remedy.

    Attributes:
        must: whether something does not work without it; else it adds something.
        link: the page on errors of this kind.
    """

    text: str
    command: str
    must: bool
    link: str


def _quoted(text: object) -> str:
    return subprocess.list2cmdline([str(text)]) if WINDOWS else shlex.quote(str(text))


def _pip(*words: str) -> str:
    return f"{_quoted(sys.executable)} -m pip install {' '.join(words)}"


def on_software(found: Machine) -> list[Advice]:
    advice = []
    if machine.is_older(found.python_version, machine.OLDEST_PYTHON):
        text = f"Python is {found.python_version}; {machine.OLDEST_PYTHON} or newer is needed."
        advice.append(_must(text, "Start ComfyUI with a newer Python.", FoleyError))
    missing = [package.name for package in found.needed if package.version is None]
    if missing:
        text = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed; ComfyUI brings them."
        advice.append(_must(text, _pip(*missing), MissingPackageError))
    if found.torch_error is not None:
        text = f"torch is installed and does not work: {found.torch_error}."
        advice.append(_must(text, _pip("--force-reinstall", "torch"), MissingPackageError))
    if found.comfyui_version and machine.is_older(found.comfyui_version, machine.OLDEST_COMFYUI):
        text = f"ComfyUI is {found.comfyui_version}; {machine.OLDEST_COMFYUI} or newer is needed."
        advice.append(_must(text, f"git -C {_quoted(found.comfyui)} pull", MissingPackageError))
    return [*advice, *(_on_extra(package.name) for package in found.extras if package.version is None)]


def _on_extra(name: str) -> Advice:
    purpose, install = machine.EXTRAS[name]
    return Advice(f"{name} is not installed; it is for {purpose}.", _pip(install), False, MissingPackageError.link())


def on_folders(models: Sequence[Path], comfyui: Path | None) -> list[Advice]:
    """On folders that were named and are not there."""
    named = [*([("--comfyui", comfyui)] if comfyui is not None else []), *(("--models", path) for path in models)]
    return [
        _must(
            f"{option} is {path}, which is a file." if path.exists() else f"{option} is {path}, and there is no such folder.",
            "Give the name of a folder that is there.", InputError,
        )
        for option, path in named if not path.is_dir()
    ]


def on_extra_paths(problems: Sequence[str]) -> list[Advice]:
    """On what ComfyUI would not start with."""
    return [_must(problem, "Correct the file: ComfyUI stops over it when it starts.", InputError) for problem in problems]


def on_models(files: list[ModelFile], sets: list[ModelSet], target: Path) -> list[Advice]:
    """Args: target: the folder `models` that a download goes to."""
    advice = []
    for file in files:
        if file.problem is not None:
            remove = f"{'del' if WINDOWS else 'rm'} {_quoted(file.path)}"
            again = f"{remove} && {_download(target, [file.network] if file.network else [])}"
            command = _renamed(Path(file.path)) or (_weights_again() if file.is_small else again)
            advice.append(Advice(f"{file.path}: {file.problem}", command, True, file.link or DamagedFileError.link()))
    damaged = {file.network for file in files if file.problem is not None}
    for one in sets:
        missing = [network for network in one.missing if network not in damaged]
        if missing:
            command = _weights_again() if one.is_small else _download(target, missing)
            advice.append(_must(f"For {one.name} there is no file of: {', '.join(missing)}.", command, MissingFileError))
    if all(one.is_small for one in sets):
        text = "The released weights are not here; the small model is not made for real footage."
        advice.append(Advice(text, _download(target, []), not sets, MissingFileError.link()))
    return advice


def _renamed(path: Path) -> str | None:
    """What gives a file of the other format its suffix; None where it has its own."""
    target = path.with_suffix(first_bytes.right_suffix(path))
    words = ("ren", _quoted(path), _quoted(target.name)) if WINDOWS else ("mv", _quoted(path), _quoted(target))
    return " ".join(words) if target != path else None


def _must(text: str, command: str, kind: type[FoleyError]) -> Advice:
    return Advice(text, command, True, kind.link())


def _weights_again() -> str:
    if (places.PACK / ".git").exists():
        return f"git -C {_quoted(places.PACK)} checkout weights"
    return "Install this package again."


def _download(target: Path, only: list[str]) -> str:
    """A command line that works wherever it is typed: by its path, the portable Python of Windows finds this package, too."""
    words = ["download", "--model", "xxl", "--to", target.absolute(), *(["--only", *only] if only else [])]
    return " ".join(map(_quoted, (sys.executable, places.PACK / "hunyuan_foley_core", *words)))
