"""`bench.py` on a machine that has torch and no network, such as a GPU that is lent for some minutes.

    python scripts/offline.py pack FOLDER                   here: ComfyUI and packages for Python 3.12 on Linux, 45 MB
    python3 scripts/offline.py bench FOLDER generate ...    there: bench.py, with what follows FOLDER

The Python there needs ComfyUI's other packages (torch, transformers, einops, safetensors, aiohttp and so on).
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import environment
from console import say, step

BENCH = Path(__file__).resolve().parent / "bench.py"
ARCHIVE, UNPACKED, PARTIAL = "comfyui.tar.gz", "unpacked", "unpacked.partial"
NOT_NEEDED = {"models", "input", "output", "tests", "tests-unit", "custom_nodes", ".git"}  # of ComfyUI's own folder
# Of what ComfyUI imports, what an image for machine learning usually lacks.
PACKAGES = ("av", "torchsde", "trampoline")


def pack(folder: Path, ours: environment.Environment, python: str, packages: list[str]) -> None:
    """Fills the folder, which may be there, with our ComfyUI and packages for that version of Python.

    Raises:
        SetupError: a package cannot be had.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / ARCHIVE).exists():  # packed before, and `bench` would take that for what is packed now
        for former in (folder / UNPACKED, folder / PARTIAL):
            shutil.rmtree(former, ignore_errors=True)
        for former in folder.glob("*.whl"):
            former.unlink()
    with step("Packing ComfyUI"), tarfile.open(folder / ARCHIVE, "w:gz") as archive:
        archive.add(ours.comfyui, "ComfyUI", filter=_needed)
    platforms = [word for name in ("manylinux_2_28_x86_64", "manylinux2014_x86_64") for word in ("--platform", name)]
    with step(f"Fetching {', '.join(packages)}"):
        command = [*environment.pip_for(ours.python), "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        done = subprocess.run(
            [*command, "--python-version", python, *platforms, "--dest", str(folder), *packages], capture_output=True, text=True
        )
        if done.returncode:
            raise environment.SetupError(f"The packages cannot be fetched.\n{done.stderr.strip()}")


def _needed(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    _, *inside = Path(entry.name).parts
    return None if inside and inside[0] in NOT_NEEDED or "__pycache__" in inside else entry


def bench(folder: Path, arguments: list[str]) -> int:
    """Unpacks the folder once and runs `bench.py` with it; returns its exit status."""
    unpacked = folder / UNPACKED
    if not unpacked.is_dir():
        partial = folder / PARTIAL
        with tarfile.open(folder / ARCHIVE) as archive:
            archive.extractall(partial, filter="data")
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(partial / "packages")
        partial.rename(unpacked)
    paths = [str(unpacked / "packages"), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, str(BENCH), *arguments, "--comfyui", str(unpacked / "ComfyUI")]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("folder", type=Path)
    packing.add_argument("--python", default="3.12", help="version of the Python there (%(default)s)")
    packing.add_argument("--packages", nargs="+", default=PACKAGES, help=f"what that Python lacks ({', '.join(PACKAGES)})")
    packing.add_argument("--comfyui", type=Path, metavar="PATH", help="a ComfyUI that is here, in place of our own")
    benching = commands.add_parser("bench")
    benching.add_argument("folder", type=Path)
    benching.add_argument("arguments", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        if arguments.command == "bench":
            return bench(arguments.folder.resolve(), arguments.arguments)
        ours = environment.find(arguments.comfyui) if arguments.comfyui else environment.build()
        pack(arguments.folder, ours, arguments.python, list(arguments.packages))
    except (environment.SetupError, OSError) as error:
        say(f"\n{error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
