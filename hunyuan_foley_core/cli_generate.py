"""The command that makes sound: `generate`."""

import argparse
from pathlib import Path

from . import cli_media, cli_settings, cli_windows, media
from .pipeline import generate
from .timing import SAMPLE_RATE


def add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--video", type=Path, help="the video to give sound to; without it the prompt alone makes the sound")
    cli_settings.add_prompts(command)
    add("--out", type=Path, required=True, help="the video to write (.mp4, .mov, .mkv, .webm), or a .wav or .flac")
    add("--seconds", type=float, help="length without a video (default 8), or the most to read of a video (default: all)")
    cli_windows.add_windows(command)
    cli_settings.add_sampling(command)
    add("--audio-only", action="store_true", help="write only the sound; --out is a .wav or .flac")
    cli_media.add_mix(command)
    cli_settings.add_models(command)


def run_generate(args: argparse.Namespace) -> Path:
    cli_media.check_output(args, args.video, args.out, args.audio_only)
    files = cli_settings.files_of(args)
    settings = cli_settings.prompted_settings_of(args, seconds=args.seconds, **cli_windows.windows_of(args))
    reading = media.DecodeReport()
    with cli_settings.progress_line() as progress:
        waveform = generate(files, settings, args.video, progress, reading)
    warnings = cli_media.write_sound(args, args.video, waveform, SAMPLE_RATE, args.out)
    cli_settings.warn(reading.warnings + warnings)
    return args.out
