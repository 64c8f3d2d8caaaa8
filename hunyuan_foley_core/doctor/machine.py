"""The software and the devices of this machine."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .. import places

NEEDED = ("torch", "numpy", "safetensors", "av", "einops", "tokenizers")
EXTRAS = {  # by package: what it is for, and what to install
    "huggingface_hub": ("downloads", "huggingface_hub"),
    "PIL": ("timelines on the command line", "pillow"),
    "scenedetect": ("finding the cuts of a video", "scenedetect-headless"),
    "pyarrow": ("training from .parquet manifests", "pyarrow"),
    "tensorboard": ("figures of a training in TensorBoard", "tensorboard"),
}
DISTRIBUTIONS = {"PIL": "pillow"}  # where they are not called as they are imported
OLDEST_COMFYUI, OLDEST_PYTHON = "0.3.75", "3.10"


@dataclass(frozen=True)
class Package:
    """A Python package; `version` and `folder` are None where it is not installed."""

    name: str
    version: str | None
    folder: str | None


@dataclass(frozen=True)
class Device:
    """Where networks can run, with its memory in bytes, None where it does not tell."""

    name: str
    memory: int | None
    free: int | None


@dataclass(frozen=True)
class Machine:
    """Versions and places of everything that takes part.

    Attributes:
        torch_error: why torch cannot be used, None if it can or is not installed.
    """

    pack: str
    pack_version: str
    python: str
    python_version: str
    system: str
    comfyui: str | None
    comfyui_version: str | None
    needed: list[Package]
    extras: list[Package]
    devices: list[Device]
    torch_error: str | None


def look(comfyui: Path | None) -> Machine:
    needed, extras = ([_package(name) for name in names] for names in (NEEDED, EXTRAS))
    devices, error = _devices(bool(needed[0].version))
    return Machine(
        str(places.PACK), _found(places.PACK / "pyproject.toml", r'^version = "(.+)"') or "unknown",
        sys.executable, platform.python_version(), f"{platform.system()} {platform.machine()}",
        comfyui and str(comfyui), comfyui and _found(comfyui / "comfyui_version.py", r'^__version__ = "(.+)"'),
        needed, extras, devices, error,
    )


def is_older(version: str, oldest: str) -> bool:
    def numbers(text: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", text)[:3]]

    return numbers(version) < numbers(oldest)


def _found(path: Path, pattern: str) -> str | None:
    """What the pattern's group is in a file; None where there is no file, or nothing like it in it."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    match = re.search(pattern, text, re.MULTILINE)
    return match and match[1]


def _package(name: str) -> Package:
    spec = importlib.util.find_spec(name)
    if spec is None:
        return Package(name, None, None)
    try:
        version = importlib.metadata.version(DISTRIBUTIONS.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return Package(name, version, spec.origin and str(Path(spec.origin).parent))


def _devices(has_torch: bool) -> tuple[list[Device], str | None]:
    """The GPUs that torch sees, then the processor."""
    processor = Device(f"CPU, {os.cpu_count()} cores", *_memory())
    if not has_torch:
        return [processor], None
    try:
        import torch

        gpus = [
            Device(f"cuda:{index}, {torch.cuda.get_device_name(index)}", *reversed(torch.cuda.mem_get_info(index)))
            for index in range(torch.cuda.device_count())
        ]
        apple = [Device("mps", *_memory())] if torch.backends.mps.is_available() else []
    except (ImportError, OSError, RuntimeError) as error:  # a library that is missing, or a driver of another version
        return [processor], str(error)
    return [*gpus, *apple, processor], None


def _memory() -> tuple[int | None, int | None]:
    """Of this machine: (all, free)."""
    try:
        import psutil
    except ModuleNotFoundError:
        return None, None
    memory = psutil.virtual_memory()
    return memory.total, memory.available
