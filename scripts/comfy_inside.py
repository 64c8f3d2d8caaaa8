"""ComfyUI's own modules and this pack's inside this process, without a server; for tests and measurements."""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
PACK = "foley_pack"


@contextmanager
def imported(comfyui: Path, base: Path, options: Sequence[str] = ("--cpu",)) -> Iterator[ModuleType]:
    """The package `comfy`, with `base` for models, input and output; within it `PACK` is ours.

    ComfyUI reads its command line when it is first imported, so one process has one base directory and one device.

    Args:
        options: of ComfyUI's own command line; `--cpu` keeps it off a GPU.
    """
    arguments, sys.argv = sys.argv, ["main.py", *options, "--base-directory", str(base)]
    sys.path.insert(0, str(comfyui))
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.model_management
        import comfy.sample
        import comfy.sd
    finally:
        sys.argv = arguments
    try:
        _load_pack()
        yield comfy
    finally:
        sys.path.remove(str(comfyui))


def _load_pack() -> None:
    """The pack, loaded by path as ComfyUI does."""
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACK])
