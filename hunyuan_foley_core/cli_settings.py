"""What all commands that make sound ask for: which model, and how to sample."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import torch

from . import small_model
from .conditions import DEFAULT_NEGATIVE_PROMPT
from .convert import DTYPES
from .errors import InputError, MediaError
from .pipeline import ModelFiles, Settings, find_model_files
from .progress import ProgressBar
from .sampling import WHOLE_INTERVAL, check_seed


def add_prompts(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--prompt", default="", help="what is heard")
    add("--negative", default=DEFAULT_NEGATIVE_PROMPT, help="what should not be heard (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")


def add_sampling(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--steps", type=int, default=50, help="sampling steps (default: %(default)s)")
    add("--cfg", type=float, default=4.5, help="guidance scale; 1 or less turns guidance off (default: %(default)s)")
    add(
        "--cfg-interval", type=float, nargs=2, default=WHOLE_INTERVAL, metavar=("HIGH", "LOW"),
        help="guide only while the noise level sigma is at most HIGH and above LOW, 1 to 0; other steps take half the "
        "time (default: 1 0, every step)",
    )
    add("--shift", type=float, default=1.0, help="sigma shift (default: %(default)s)")
    add("--no-tag", action="store_true", help="do not ask for wide-band sound with the tag 'high-quality'")


def add_models(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "--models", type=Path, default=small_model.FOLDER,
        help="folder with the model files, searched with its subfolders (default: the small model that comes with this "
        "package, which knows simple synthetic scenes only)",
    )
    add("--lora", type=Path, metavar="FILE", help="a LoRA to use with the transformer")
    add("--lora-strength", type=float, default=1.0, help="how much of it (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default here: %(default)s")
    add("--dtype", choices=("fp32", "bf16", "fp16"), help="type the transformer computes in (default: bf16 on a GPU)")
    for field in fields(ModelFiles):
        add(f"--{field.name}", type=Path, metavar="FILE", help=f"take this {field.name} file instead of looking for it")


def checked_device(name: str) -> str:
    """The name of a device, if it can calculate; InputError if there is none such here."""
    try:
        torch.ones(1, device=name).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # unknown to torch, or not in this machine or build
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")  # what follows is for people who build torch
        raise InputError(
            f"The device is {name!r}: {reason}.", "Expected one that is here, such as cpu.",
            "Correct --device, or leave it out; `doctor` lists what is here.",
        ) from error
    return name


def settings_of(args: argparse.Namespace, **others) -> Settings:
    """From the arguments of `add_sampling` and `add_models`; `others` are further fields of `Settings`."""
    device = checked_device(args.device)
    dtype = args.dtype or ("fp32" if torch.device(device).type == "cpu" else "bf16")
    return Settings(
        steps=args.steps, guidance_scale=args.cfg, guidance_interval=tuple(args.cfg_interval), shift=args.shift,
        tag=not args.no_tag, device=device, dtype=DTYPES[dtype], lora=args.lora, lora_strength=args.lora_strength,
        **others,
    )


def prompted_settings_of(args: argparse.Namespace, **others) -> Settings:
    """The same, with the arguments of `add_prompts`."""
    check_seed(args.seed)
    return settings_of(args, prompt=args.prompt, negative_prompt=args.negative, seed=args.seed, **others)


def files_of(args: argparse.Namespace) -> ModelFiles:
    """The model files that the arguments of `add_models` name; warns on stderr where they are the small model's."""
    files = find_model_files(args.models, **{field.name: getattr(args, field.name) for field in fields(ModelFiles)})
    if files.transformer.name == small_model.TRANSFORMER:
        sys.stderr.write(f"{small_model.LIMITS}\n")
    return files


def make_folder(path: Path) -> None:
    """MediaError where it cannot be made and is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(
            f"{path} cannot be a folder for the results ({error.strerror}).", "Expected a folder, or a name for a new one.",
            "Change --out.",
        ) from error


@contextmanager
def progress_line() -> Iterator[ProgressBar]:
    progress = ProgressBar()
    try:
        yield progress
    finally:
        progress.close()


def warn(messages: list[str]) -> None:
    sys.stderr.writelines(f"{message}\n" for message in messages)
