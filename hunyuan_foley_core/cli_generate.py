"""The command that makes sound: `generate`."""

import argparse
from pathlib import Path

from . import cli_media, cli_settings, cli_windows, media
from .pipeline import Loader, ModelFiles, Progress, generate_takes
from .timing import SAMPLE_RATE


def add_generate(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--video", type=Path, help="the video to give sound to; without it the prompt alone makes the sound")
    cli_settings.add_prompts(command)
    add("--out", type=Path, required=True, help="the video to write (.mp4, .mov, .mkv, .webm), or a .wav or .flac")
    add("--seconds", type=float, help="length without a video (default 8), or the most to read of a video (default: all)")
    cli_windows.add_windows(command)
    cli_settings.add_sampling(command)
    add("--takes", type=int, default=1, metavar="N", help="make N takes at once, each into a file of its own")
    add("--take", type=int, default=0, metavar="INDEX", help="the first take to make; one alone is the same as in a batch")
    add("--audio-only", action="store_true", help="write only the sound; --out is a .wav or .flac")
    cli_media.add_mix(command)
    cli_settings.add_models(command)


def take_paths(args: argparse.Namespace) -> list[Path]:
    """Where the takes go: one to --out, several beside it under names that say how to make each again."""
    if args.takes == 1:
        return [args.out]
    takes = range(args.take, args.take + args.takes)
    return [args.out.with_stem(f"{args.out.stem}_seed{args.seed}_take{take}") for take in takes]


def run_generate(args: argparse.Namespace) -> str:
    check_sounds(args)
    files = cli_settings.files_of(args)
    with cli_settings.progress_line() as progress:
        paths, warnings = make_sounds(args, files, progress)
    cli_settings.warn(warnings)
    return "\n".join(map(str, paths))


def check_sounds(args: argparse.Namespace) -> None:
    """Complains before any work is done about what could not be written."""
    for path in take_paths(args):
        cli_media.check_output(args, args.video, path, args.audio_only)


def make_sounds(
    args: argparse.Namespace, files: ModelFiles, progress: Progress, loader: Loader | None = None
) -> tuple[list[Path], list[str]]:
    """Makes and writes what the arguments ask for: the files, and warnings for the user."""
    settings = cli_settings.prompted_settings_of(
        args, seconds=args.seconds, takes=args.takes, first_take=args.take, **cli_windows.windows_of(args)
    )
    paths, reading, warnings = take_paths(args), media.DecodeReport(), []
    waveforms = generate_takes(files, settings, args.video, progress, reading, loader)
    for path, waveform in zip(paths, waveforms, strict=True):
        warnings += cli_media.write_sound(args, args.video, waveform, SAMPLE_RATE, path)
    return paths, reading.warnings + warnings
