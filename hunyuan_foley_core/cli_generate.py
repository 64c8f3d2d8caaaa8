"""The command that makes sound: `generate`."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

import torch

from . import media, small_model
from .conditions import DEFAULT_NEGATIVE_PROMPT
from .convert import DTYPES
from .errors import FoleyError
from .pipeline import ModelFiles, Settings, find_model_files, generate
from .progress import ProgressBar
from .sampling import WHOLE_INTERVAL
from .timing import SAMPLE_RATE

SOUND_SUFFIXES = (".wav", ".flac")


def add_generate(command: argparse.ArgumentParser) -> None:
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
