"""`python -m hunyuan_foley_core`: the same functions as the nodes, without ComfyUI."""

import argparse
import logging
import sys
from pathlib import Path

from . import cli_data, cli_doctor, cli_download, cli_edit, cli_evaluation, cli_folder, cli_layers, cli_media
from .convert import CHOICES, convert
from .errors import FoleyError
from .media import packets
from .progress import ProgressBar

_COMMANDS = {**cli_edit.COMMANDS, **cli_layers.COMMANDS, **cli_media.COMMANDS}


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m hunyuan_foley_core", description="Sound for silent video.")
    commands = root.add_subparsers(dest="command", required=True)
    cli_folder.add_generate(commands.add_parser("generate", help="make sound for a video, or for a prompt alone"))
    for name, (add, _, what) in _COMMANDS.items():
        add(commands.add_parser(name, help=what))
    cli_download.add_download(commands.add_parser("download", help="fetch the released weights; lists them first"))
    commands.add_parser("doctor", parents=[cli_doctor.parser()], add_help=False, help=cli_doctor.WHAT)
    _add_convert(commands.add_parser("convert", help="write a checkpoint as safetensors, smaller if you like"))
    cli_data.add_world(commands.add_parser("world", help="write clips of the synthetic world to train on"))
    cli_data.add_prepare(commands.add_parser("prepare", help="turn clips into a cache to train from"))
    _add_train(commands.add_parser("train", help="train a network, or go on training it"))
    cli_evaluation.add_evaluate(commands.add_parser("evaluate-tiny", help="figures of the small model beside their targets"))
    cli_evaluation.add_ablate(commands.add_parser("ablate", help="what each part of the design is worth, on the small model"))
    return root


def _add_convert(command: argparse.ArgumentParser) -> None:
    command.add_argument("source", type=Path, help="a .pth, .bin or .safetensors file")
    command.add_argument("target", type=Path, help="the .safetensors file to write")
    command.add_argument(
        "--dtype", choices=CHOICES,
        help="change the type of the weights (default: as stored); fp8 is for the transformer, where the matrices of its "
        "blocks take it, and fp8_e4m3fn_scaled for those of linear layers",
    )


def _add_train(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", help="a file of settings, or the name of one that comes with this package")
    command.add_argument("settings", nargs="*", metavar="key=value", help="settings to use instead of those in the file")


def run_convert(args: argparse.Namespace) -> Path:
    progress = ProgressBar()
    try:
        convert(args.source, args.target, args.dtype, lambda done, total: progress("converting", done, total))
    finally:
        progress.close()
    return args.target


def run_train(args: argparse.Namespace) -> Path:
    from .train import command  # here, because no other command needs what training does

    progress = command.ProgressLine()
    try:
        return command.run(args.config, args.settings, progress)
    finally:
        progress.close()


RUN = {
    "generate": cli_folder.run_generate, "download": cli_download.run_download, "convert": run_convert,
    "world": cli_data.run_world, "prepare": cli_data.run_prepare,
    **{name: run for name, (_, run, _) in _COMMANDS.items()},
    "train": run_train, "evaluate-tiny": cli_evaluation.run_evaluate, "ablate": cli_evaluation.run_ablate,
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 when it worked, 1 after a message the user can act on, 130 when interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    packets.logger.setLevel(logging.ERROR)  # each command prints what its report says of the files
    args = parser().parse_args(argv)
    try:
        if args.command == "doctor":
            return cli_doctor.run(args)
        sys.stdout.write(f"{RUN[args.command](args)}\n")
    except FoleyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"{str(stopped) or 'Stopped; nothing half-written is left.'}\n")
        return 130
    return 0
