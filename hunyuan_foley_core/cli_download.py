"""The command that fetches the released weights: `download`."""

import argparse
import sys
from pathlib import Path

from . import cli_settings, download, places
from .errors import InputError, LicenceError


def add_download(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--model", choices=download.MODELS, default="xxl",
        help="xxl, xl, or xxl-fp8: the first, converted to scaled fp8 once it is here (default: %(default)s)",
    )
    add(
        "--to", type=Path, metavar="MODELS",
        help="ComfyUI's folder `models`, or any other; subfolders are made (default: that of the ComfyUI this package is in)",
    )
    add("--only", nargs="+", choices=download.NETWORKS, default=(), help="bring the files of these networks alone")
    add("--accept-licence", action="store_true", help="you have read the licences that the list names and accept them")


def run_download(args: argparse.Namespace) -> str:
    hub = download.Hub()
    plan = download.make_plan(hub, args.model, places.model_folders(_models(args.to)), args.only)
    sys.stdout.write(f"{plan.listing()}\n")
    sys.stdout.flush()
    if not (args.accept_licence or _asked()):
        raise LicenceError(
            "The licences in the list have not been accepted, so nothing was downloaded.", "Expected your consent.",
            "Read them, and if they suit you, give the same command with --accept-licence.",
        )
    with cli_settings.progress_line() as progress:
        paths = download.carry_out(plan, hub, progress)
    return "\n".join(map(str, paths))


def _models(chosen: Path | None) -> Path:
    around = places.comfyui_around()
    if chosen is None and around is None:
        raise InputError(
            f"No ComfyUI is around {places.PACK}.", "Expected to be told where the files go.",
            "Name ComfyUI's folder `models` with --to.",
        )
    return chosen or around / "models"


def _asked() -> bool:
    """Whether the person at the terminal says yes; False where there is none."""
    if not sys.stdin.isatty():
        return False
    sys.stdout.write("Have you read these licences, and do you accept them? Type yes: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() == "yes"
