"""The command that makes sound: `generate`."""

import argparse
from pathlib import Path

import torch

from . import cli_settings, media
from .errors import FoleyError
from .pipeline import generate
from .timing import SAMPLE_RATE

SOUND_SUFFIXES = (".wav", ".flac")


def add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--video", type=Path, help="the video to give sound to; without it the prompt alone makes the sound")
    cli_settings.add_prompts(command)
    add("--out", type=Path, required=True, help="the video to write (.mp4, .mov, .mkv, .webm), or a .wav or .flac")
    add("--seconds", type=float, help="length without a video (default 8), or the most to read of a video (default 15)")
    cli_settings.add_sampling(command)
    add("--audio-only", action="store_true", help="write only the sound; --out is a .wav or .flac")
    add("--mix", action="store_true", help="keep the video's own sound under the new one")
    add("--gain", type=float, default=0.0, metavar="DB", help="gain of the new sound in dB (default: %(default)s)")
    cli_settings.add_models(command)


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
    files = cli_settings.files_of(args)
    settings, reading = cli_settings.prompted_settings_of(args, seconds=args.seconds), media.DecodeReport()
    with cli_settings.progress_line() as progress:
        waveform = generate(files, settings, args.video, progress, reading)
    cli_settings.warn(reading.warnings + _write(args, waveform, only_sound).warnings)
    return args.out
