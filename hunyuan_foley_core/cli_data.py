"""The commands that make data to train on: `world` writes synthetic clips, `prepare` turns clips into a cache."""

import argparse
import re
import sys
from dataclasses import fields
from pathlib import Path

import torch

from . import cli_settings
from .errors import InputError
from .pipeline import ModelFiles, find_model_files
from .progress import ProgressBar

NETWORKS = [field.name for field in fields(ModelFiles) if field.name != "transformer"]


def add_world(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("folder", type=Path, help="where to write; clips that are there are kept")
    add("--seeds", required=True, metavar="A:B", help="write the clips of the seeds A to B - 1")
    add("--seconds", type=float, default=2.0, help="length of a clip (default: %(default)s)")
    add("--fps", type=float, default=25.0, help="frames per second (default: %(default)s)")
    add("--size", default="128x128", metavar="WxH", help="width and height in pixels, both even (default: %(default)s)")
    add("--look", default="full", help="full, neutral (no material shows) or plain (flat shapes) (default: %(default)s)")
    add("--things", type=int, default=3, help="how many act in a clip at most, 1 to 3 (default: %(default)s)")


def add_prepare(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("data", type=Path, help="a folder of clips (.txt captions beside them), or a manifest (.jsonl, .parquet)")
    add("cache", type=Path, help="the folder to write; clips that it has are kept")
    add("--models", type=Path, required=True, help="folder with the model files, searched with its subfolders")
    add("--seconds", type=float, help="cut longer clips into pieces of this length (default: 15, the most there can be)")
    add("--caption", default="", help="caption of clips that come without one (default: none)")
    add("--teacher", default="none", help="whose features to add for REPA: log_mel or atst (default: %(default)s)")
    add("--teacher-file", type=Path, metavar="FILE", help="the teacher's checkpoint, if it needs one")
    add(
        "--latents", choices=("encoder", "spectral"), default="encoder",
        help="made by the DAC-VAE's encoder, or the spectral latents that a small one was trained towards "
        "(`train dac_vae_tiny part=encoder`): exact, and made in a moment (default: %(default)s)",
    )
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default here: %(default)s")
    for name in NETWORKS:
        add(f"--{name}", type=Path, metavar="FILE", help=f"take this {name} file instead of looking for one")


def run_world(args: argparse.Namespace) -> Path:
    from .data import write_dataset

    seeds, (width, height) = range(*_pair(args.seeds, ":", "--seeds")), _pair(args.size, "x", "--size")
    progress = ProgressBar()
    try:
        return write_dataset(
            args.folder, seeds, args.seconds, args.fps, (height, width), look=args.look, things=args.things,
            callback=lambda done, total: progress("writing clips", done, total),
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped; the same command goes on from there.") from None
    finally:
        progress.close()


def run_prepare(args: argparse.Namespace) -> Path:
    from .train.cache import build_cache
    from .train.manifest import read_dataset
    from .train.teachers import build_teacher

    device = cli_settings.checked_device(args.device)
    dataset = read_dataset(args.data, args.caption)
    files = find_model_files(args.models, optional=("transformer",), **{name: getattr(args, name) for name in NETWORKS})
    teacher = build_teacher(args.teacher, args.teacher_file, device)
    progress = ProgressBar()
    try:
        report = build_cache(
            dataset.entries, files, args.cache, teacher=teacher, spectral=args.latents == "spectral",
            device=device, seconds=args.seconds,
            callback=lambda done, total: progress("encoding clips", done, total),
        )
    finally:
        progress.close()
    skipped = [f"Skipped {name}: {reason}" for name, reason in [*dataset.skipped, *report.skipped]]
    counts = f"{report.made} clips are new, {report.kept} were there, {len(skipped)} were skipped."
    sys.stderr.write("\n".join([*dataset.warnings, *report.warnings, *skipped, counts]) + "\n")
    return report.folder


def _pair(text: str, separator: str, option: str) -> tuple[int, int]:
    match = re.fullmatch(rf"(\d+){separator}(\d+)", text)
    if match is None:
        raise InputError(f"{option} is {text!r}.", f"Expected two whole numbers such as 1{separator}2.", "Correct it.")
    return int(match[1]), int(match[2])
