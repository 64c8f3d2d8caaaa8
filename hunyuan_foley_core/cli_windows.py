"""Options of the commands for clips that are long, have scenes, or have prompts by time."""

import argparse
from pathlib import Path
from typing import Any

from .errors import InputError
from .scenes import THRESHOLD, detect_cuts, parse_cuts
from .text_files import read_text
from .timed_prompts import parse
from .timing import LATENT_RATE
from .windows import WindowSettings

DETECT = "detect"


def add_times(command: argparse.ArgumentParser) -> None:
    """Prompts by time, and scenes; `times_of` reads them."""
    command.add_argument(
        "--timed", metavar="TEXT", help="prompts by time, one a line, or a file of them: `0:00-0:03 footsteps on gravel`, "
        "`0:03.2 door slams` (a second from there), `#2 a crowd` (the second scene), `* light rain` (everywhere else; by "
        "default --prompt, or what the picture suggests, or silence)",
    )
    add_scenes(command)


def add_scenes(command: argparse.ArgumentParser) -> None:
    """`cuts_of` reads them."""
    add = command.add_argument
    add(
        "--scenes", metavar="TIMES", help=f"where the video cuts, such as `0:03.2, 0:11`, or `{DETECT}` to have PySceneDetect "
        "find it; each scene is made for itself",
    )
    add(
        "--scene-threshold", type=float, default=THRESHOLD, metavar="X",
        help="how much a picture must change to be a cut, for PySceneDetect; lower finds more (default: %(default)s)",
    )


def add_windows(command: argparse.ArgumentParser) -> None:
    """The same, and the lengths of windows; `windows_of` reads them."""
    add_times(command)
    add, default = command.add_argument, WindowSettings()
    add(
        "--window", type=float, metavar="SECONDS", help="make more than this in windows that overlap (default: windows of "
        f"{default.length / LATENT_RATE:g} s for more than {default.longest_whole / LATENT_RATE:g} s, or what the weights say)",
    )
    add(
        "--overlap", type=float, metavar="SECONDS",
        help=f"what neighbouring windows share at least (default: {default.overlap / LATENT_RATE:g}, or what the weights say)",
    )


def windows_of(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of `pipeline.Settings` from the arguments of `add_windows`.

    Raises:
        FoleyError: a text, a time or a length that cannot be used.
    """
    windows = args.window, args.overlap
    if None not in windows:
        WindowSettings.from_seconds(*windows)  # which refuses what cannot be laid out, before any work
    return {**times_of(args), "windows": None if windows == (None, None) else windows}


def times_of(args: argparse.Namespace) -> dict[str, Any]:
    """The same from the arguments of `add_times`."""
    return {"timed_prompts": tuple(parse(_text(args.timed))) if args.timed is not None else (), "cuts": cuts_of(args)}


def cuts_of(args: argparse.Namespace) -> tuple[float, ...]:
    """Seconds at which the scenes of --video begin, from the arguments of `add_scenes`. FoleyError as for `windows_of`."""
    if args.scenes is None:
        return ()
    if args.scenes != DETECT:
        return tuple(parse_cuts(args.scenes))
    if args.video is None:
        raise InputError("There is no video to find scenes in.", "", "Give one with --video, or leave out --scenes.")
    return tuple(detect_cuts(args.video, args.scene_threshold))


def _text(text_or_file: str) -> str:
    """The text itself, or what a file of that name holds; `\\n` in the text begins a line, as it does in a shell's."""
    path = Path(text_or_file)
    if "\n" not in text_or_file and path.suffix == ".txt":
        try:
            return read_text(path)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} cannot be read ({error}).", "Expected a text file of timed prompts.", "Check its name."
            ) from error
    return text_or_file.replace("\\n", "\n")
