"""`python -m hunyuan_foley_core`: the same functions as the nodes, without ComfyUI."""

import argparse
import logging
import sys
from dataclasses import fields
from pathlib import Path

import torch

from . import cli_data, cli_evaluation, media, small_model
from .conditions import DEFAULT_NEGATIVE_PROMPT
from .convert import CHOICES, DTYPES, convert
from .errors import FoleyError
from .pipeline import ModelFiles, Settings, find_model_files, generate
from .progress import ProgressBar
from .sampling import WHOLE_INTERVAL
from .timing import SAMPLE_RATE

SOUND_SUFFIXES = (".wav", ".flac")


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="python -m hunyuan_foley_core", description="Sound for silent video.")
    commands = root.add_subparsers(dest="command", required=True)
    _add_generate(commands.add_parser("generate", help="make sound for a video, or for a prompt alone"))
    _add_convert(commands.add_parser("convert", help="write a checkpoint as safetensors, smaller if you like"))
    cli_data.add_world(commands.add_parser("world", help="write clips of the synthetic world to train on"))
    cli_data.add_prepare(commands.add_parser("prepare", help="turn clips into a cache to train from"))
    _add_train(commands.add_parser("train", help="train a network, or go on training it"))
    cli_evaluation.add_evaluate(commands.add_parser("evaluate-tiny", help="figures of the small model beside their targets"))
    cli_evaluation.add_ablate(commands.add_parser("ablate", help="what each part of the design is worth, on the small model"))
    return root


def _add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--video", type=Path, help="the video to give sound to; without it the prompt alone makes the sound")
    add("--prompt", default="", help="what is heard")
    add("--negative", default=DEFAULT_NEGATIVE_PROMPT, help="what should not be heard (default: %(default)s)")
    add(
        "--models", type=Path, default=small_model.FOLDER,
        help="folder with the model files, searched with its subfolders (default: the small model that comes with this "
        "package, which knows simple synthetic scenes only)",
    )
    add("--out", type=Path, required=True, help="the video to write (.mp4, .mov, .mkv, .webm), or a .wav or .flac")
    add("--seconds", type=float, help="length without a video (default 8), or the most to read of a video (default 15)")
    add("--steps", type=int, default=50, help="sampling steps (default: %(default)s)")
    add("--cfg", type=float, default=4.5, help="guidance scale; 1 or less turns guidance off (default: %(default)s)")
    add(
        "--cfg-interval", type=float, nargs=2, default=WHOLE_INTERVAL, metavar=("HIGH", "LOW"),
        help="guide only while the noise level sigma is at most HIGH and above LOW, 1 to 0; other steps take half the "
        "time (default: 1 0, every step)",
    )
    add("--shift", type=float, default=1.0, help="sigma shift (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of the noise (default: %(default)s)")
    add("--no-tag", action="store_true", help="do not ask for wide-band sound with the tag 'high-quality'")
    add("--audio-only", action="store_true", help="write only the sound; --out is a .wav or .flac")
    add("--mix", action="store_true", help="keep the video's own sound under the new one")
    add("--gain", type=float, default=0.0, metavar="DB", help="gain of the new sound in dB (default: %(default)s)")
    add("--lora", type=Path, metavar="FILE", help="a LoRA to use with the transformer")
    add("--lora-strength", type=float, default=1.0, help="how much of it (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default here: %(default)s")
    add("--dtype", choices=("fp32", "bf16", "fp16"), help="type the transformer computes in (default: bf16 on a GPU)")
    for field in fields(ModelFiles):
        add(f"--{field.name}", type=Path, metavar="FILE", help=f"take this {field.name} file instead of looking for one")


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


def _settings(args: argparse.Namespace) -> Settings:
    dtype = args.dtype or ("fp32" if torch.device(args.device).type == "cpu" else "bf16")
    return Settings(
        prompt=args.prompt, negative_prompt=args.negative, seconds=args.seconds, steps=args.steps,
        guidance_scale=args.cfg, guidance_interval=tuple(args.cfg_interval), shift=args.shift, seed=args.seed,
        tag=not args.no_tag, device=args.device, dtype=DTYPES[dtype], lora=args.lora, lora_strength=args.lora_strength,
    )


def _check_output(args: argparse.Namespace) -> bool:
    """Whether only sound is to be written; complains before any work is done."""
    is_sound = args.out.suffix.lower() in SOUND_SUFFIXES
    if (args.audio_only or args.video is None) and not is_sound:
        raise FoleyError(
            f"The output is {args.out.name}.", "Without a picture it has to be a .wav or .flac file.",
            "Change --out, or give a --video and leave out --audio-only.",
        )
    if not args.out.parent.is_dir():
        raise FoleyError(f"There is no folder {args.out.parent}.", "Expected one to write into.", "Make it first.")
    if not is_sound:
        media.check_mux(args.video, args.out, "mix" if args.mix else "replace")
    return is_sound


def _write(args: argparse.Namespace, waveform: torch.Tensor, only_sound: bool) -> media.WriteReport:
    if only_sound:
        return media.write_audio(args.out, waveform * 10 ** (args.gain / 20), SAMPLE_RATE)
    try:
        mode = "mix" if args.mix else "replace"
        return media.mux(args.video, waveform, SAMPLE_RATE, args.out, mode=mode, gain_db=args.gain)
    except FoleyError as error:
        # The sound took minutes to make; it must not go down with a container that cannot be written.
        kept = media.write_audio(args.out.with_suffix(".flac"), waveform, SAMPLE_RATE).path
        raise FoleyError(str(error), f"The sound itself is kept in {kept}.") from error


def run_generate(args: argparse.Namespace) -> Path:
    only_sound = _check_output(args)
    files = find_model_files(args.models, **{field.name: getattr(args, field.name) for field in fields(ModelFiles)})
    if files.transformer.name == small_model.TRANSFORMER:
        sys.stderr.write(f"{small_model.LIMITS}\n")
    progress, reading = ProgressBar(), media.DecodeReport()
    try:
        waveform = generate(files, _settings(args), args.video, progress, reading)
    finally:
        progress.close()
    for warning in reading.warnings + _write(args, waveform, only_sound).warnings:
        sys.stderr.write(f"{warning}\n")
    return args.out


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
    "generate": run_generate, "convert": run_convert, "world": cli_data.run_world, "prepare": cli_data.run_prepare,
    "train": run_train, "evaluate-tiny": cli_evaluation.run_evaluate, "ablate": cli_evaluation.run_ablate,
}


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 when it worked, 1 after a message the user can act on, 130 when interrupted."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    args = parser().parse_args(argv)
    try:
        sys.stdout.write(f"{RUN[args.command](args)}\n")
    except FoleyError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"{str(stopped) or 'Stopped; nothing was written.'}\n")
        return 130
    return 0
