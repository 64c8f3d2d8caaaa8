"""The command that finds out what is wrong: `doctor`. It runs where nothing is installed, torch included."""

import argparse
import sys
from pathlib import Path

from . import doctor

WHAT = "what is installed, which model files there are, what is missing, and the command that mends it"


def parser() -> argparse.ArgumentParser:
    command = argparse.ArgumentParser(prog="python -m hunyuan_foley_core doctor", description=f"Tells {WHAT}.")
    add = command.add_argument
    add(
        "--comfyui", type=Path, metavar="FOLDER",
        help="ComfyUI's folder, or its --base-directory (default: the one around this package)",
    )
    add(
        "--models", type=Path, action="append", default=[], metavar="FOLDER",
        help="a folder with model files, searched with its subfolders; may be given several times",
    )
    add("--json", action="store_true", help="write the findings as JSON")
    return command


def run(args: argparse.Namespace) -> int:
    """0 when all is well, 1 when something has to be done."""
    report = doctor.examine(args.models, args.comfyui)
    sys.stdout.write(f"{report.to_json() if args.json else doctor.to_text(report)}\n")
    return 0 if report.is_well else 1


def main(argv: list[str] | None = None) -> int:
    return run(parser().parse_args(argv))
