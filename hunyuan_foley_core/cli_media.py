"""How sound is mixed and written, for all commands that write it; and `mux` and `timeline` for sound that is there."""

import argparse
import itertools
import os
import stat
import tempfile
from pathlib import Path

import torch

from . import cli_settings, cli_windows, media
from .errors import FoleyError, InputError, MissingPackageError, UnwritableError
from .media.mixdown import check_sound_rate
from .scenes import kept_cuts
from .timing import latent_frames

SOUND_SUFFIXES = (".wav", ".flac")
_DUCKING = media.Ducking()


def add_mix(command: argparse.ArgumentParser) -> None:
    """Options for what becomes of the sound; `mix_of` reads them."""
    add = command.add_argument
    add("--mix", action="store_true", help="keep the video's own sound under the new one")
    add("--gain", type=float, default=0.0, metavar="DB", help="gain of the new sound in dB (default: %(default)s)")
    add(
        "--original-gain", type=float, default=0.0, metavar="DB",
        help="gain of the video's own sound in dB (default: %(default)s)",
    )
    add(
        "--offset", type=float, default=0.0, metavar="S",
        help="seconds the new sound begins late, exact to the sample; below 0 cuts its beginning (default: %(default)s)",
    )
    _add_ducking(add)
    add("--loudness", type=float, metavar="LUFS", help="integrated loudness of the result, such as -23 (default: as it is)")
    add(
        "--true-peak", type=float, default=-1.0, metavar="DBTP",
        help="ceiling of true peaks, with --loudness (default: %(default)s)",
    )
    add("--stereo-width", type=float, default=1.0, help="of the new sound: 0 mono, 1 as it is, 2 twice (default: %(default)s)")
    add("--channels", choices=media.CHANNELS[1:], default="as mixed", help="make the result mono or stereo (default: as it is)")
    add(
        "--codec", choices=list(media.CODECS),
        help="of the sound in a video (default: AAC in .mp4 and .mov, Opus in .webm, FLAC in .mkv)",
    )
    add("--rate", type=int, metavar="HZ", help="sample rate of the result (default: that of the new sound, 48000 if generated)")


def _add_ducking(add) -> None:
    add(
        "--duck", choices=media.DUCKED[1:], default="none",
        help="mix, and let one go down while the other is heard: the video's own sound (original) or the new one (foley)",
    )
    for name, default, unit, what in (
        ("depth", _DUCKING.depth_db, "DB", "how far it goes down, 0 to 30 dB"),
        ("attack", _DUCKING.attack_ms, "MS", "how long before the other sound it begins to go down, 1 to 1000 ms"),
        ("release", _DUCKING.release_ms, "MS", "how long it takes to come back after the other sound, 1 to 5000 ms"),
        ("threshold", _DUCKING.threshold_db, "DBFS", "peak level above which the other sound counts as heard, -60 to 0"),
    ):
        add(f"--duck-{name}", type=float, default=default, metavar=unit, help=f"{what} (default: %(default)s)")


def mix_of(args: argparse.Namespace) -> media.Mix:
    """InputError for values out of range."""
    ducking = media.Ducking(args.duck_depth, args.duck_attack, args.duck_release, args.duck_threshold)
    return media.Mix(
        mode="mix" if args.mix or args.duck != "none" else "replace", gain_db=args.gain,
        original_gain_db=args.original_gain, offset=args.offset, duck=args.duck, ducking=ducking,
        loudness=args.loudness, true_peak=args.true_peak, width=args.stereo_width, channels=args.channels,
    )


def check_output(args: argparse.Namespace, video: Path | None, out: Path, audio_only: bool = False) -> None:
    """Complains before any work is done about what `write_sound` could not do."""
    is_sound, mix = out.suffix.lower() in SOUND_SUFFIXES, mix_of(args)
    if (audio_only or video is None) and not is_sound:
        raise InputError(
            f"The output is {out.name}.", "Without a picture it has to be a .wav or .flac file.",
            "Change --out, or give a --video and leave out --audio-only.",
        )
    if not out.parent.is_dir():
        raise UnwritableError(f"There is no folder {out.parent}.", "Expected one to write into.", "Make it first.")
    _check_name(out)
    check_sound_rate(args.rate)
    if is_sound and args.codec is not None:
        raise InputError(
            f"The sound was to be coded as {args.codec} in {out.name}.", "A .wav or .flac has its own.", "Leave out --codec."
        )
    if video is None and mix.mode == "mix":
        raise InputError("There is no video to mix with.", "Mixing and ducking need its own sound.", "Give a --video.")
    if not is_sound or mix.mode == "mix":
        media.check_mux(video, out if not is_sound else Path("x.mkv"), mix.mode, codec=args.codec, rate=args.rate)


def _check_name(out: Path) -> None:
    """UnwritableError where the system takes no such name (too long, for example), or it is that of a folder."""
    try:
        reason = "it is a folder" if stat.S_ISDIR(out.stat().st_mode) else None
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror
    if reason:
        raise UnwritableError(f"{out} cannot be written ({reason}).", "Expected the name of a file.", "Change the name.")


def ends_with_picture(args: argparse.Namespace) -> bool:
    """Whether the result is as long as the picture, not as the sound."""
    return args.out.suffix.lower() not in SOUND_SUFFIXES or mix_of(args).mode == "mix"


def write_sound(
    args: argparse.Namespace, video: Path | None, waveform: torch.Tensor, sample_rate: int, out: Path
) -> list[str]:
    """Writes the sound [channels, N], mixed as `args` say, alone or onto the video; warnings for the user."""
    try:
        return _write(args, video, waveform, sample_rate, out)
    except FoleyError as error:
        # The sound took minutes to make; it must not go down with a file that cannot be written.
        kept = _kept(waveform, sample_rate, out, error)
        raise type(error)(error.found, error.expected, f"{error.remedy} The sound itself is kept in {kept}.".strip()) from error


def _write(args, video, waveform, sample_rate: int, out: Path) -> list[str]:
    mix = vars(mix_of(args))
    if out.suffix.lower() in SOUND_SUFFIXES and args.rate is None and mix == vars(media.Mix()):
        return media.write_audio(out, waveform, sample_rate).warnings  # as it is, in all of its channels
    if out.suffix.lower() not in SOUND_SUFFIXES:
        return media.mux(video, waveform, sample_rate, out, codec=args.codec, rate=args.rate, **mix).warnings
    if mix["mode"] == "mix":
        track = media.mixdown_for(video, waveform, sample_rate, rate=args.rate, **mix)
    else:
        track = media.mixdown(waveform, sample_rate, waveform.shape[-1] / sample_rate, rate=args.rate, mix=media.Mix(**mix))
    return [*track.warnings, *media.write_audio(out, track.waveform, track.sample_rate).warnings]


def _kept(waveform: torch.Tensor, sample_rate: int, out: Path, error: FoleyError) -> Path:
    """Where the sound could still be written: beside the output, or where the system keeps temporary files."""
    for folder in (out.parent, Path(tempfile.gettempdir())):
        try:
            return media.write_audio(_unused(folder / f"{out.stem}.flac"), waveform, sample_rate).path
        except FoleyError:
            continue
    raise error


def _unused(path: Path) -> Path:
    """The path, with the first number from 2 on behind its stem that makes it one where nothing lies yet."""
    numbered = (path.with_stem(f"{path.stem}_{number}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not os.path.lexists(name))


# ---- mux


def add_mux(command: argparse.ArgumentParser) -> None:
    command.add_argument("video", type=Path, help="the video; its picture is copied bit for bit")
    command.add_argument("sound", type=Path, help="the new sound: a sound file, or a video that has one")
    command.add_argument("--out", type=Path, required=True, help="the video to write, or a .wav or .flac for the mix alone")
    add_mix(command)


def run_mux(args: argparse.Namespace) -> Path:
    check_output(args, args.video, args.out)
    report = media.DecodeReport()
    waveform, sample_rate = media.read_audio(args.sound, report=report)
    cli_settings.warn(report.warnings + _write(args, args.video, waveform, sample_rate, args.out))
    return args.out


# ---- timeline


def add_timeline(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("video", type=Path, help="the video to show")
    add("--sound", type=Path, metavar="FILE", help="the sound to show (default: the video's own, if it has one)")
    add("--out", type=Path, help="the picture to write (default: the video's name with _timeline.png, in the current folder)")
    add("--width", type=int, default=1600, help="of the picture in pixels (default: %(default)s)")
    cli_windows.add_windows(command)


def run_timeline(args: argparse.Namespace) -> Path:
    out = args.out or Path(f"{args.video.stem}_timeline.png")
    if out.suffix.lower() != ".png":
        raise InputError(f"The picture was to be written as {out.name}.", "It is a PNG.", "Let the name end in .png.")
    timeline = _timeline_module()
    report, info = media.DecodeReport(), media.probe(args.video)
    sound = media.read_audio(args.sound or args.video, report=report) if args.sound or info.has_audio else None
    seconds = media.picture_length(args.video)
    spans = timeline.spans_of(seconds, **_planned(args, seconds))
    frames = media.stream_frames(args.video, max_seconds=None, report=report)
    image = timeline.draw_timeline(frames, seconds, sound=sound, title=args.video.name, width=args.width, **spans)
    timeline.save(out, image)
    cli_settings.warn(report.warnings)
    return out


def _planned(args: argparse.Namespace, seconds: float | None) -> dict:
    """What `generate` would make of the same options: cuts in latent frames, windows, and prompts."""
    plan = cli_windows.windows_of(args)
    cuts = [latent_frames(cut) for cut in kept_cuts(plan["cuts"], seconds)]
    return {"cuts": cuts, "prompts": plan["timed_prompts"], "windows": plan["windows"]}


def _timeline_module():
    """Here, because nothing else needs Pillow."""
    try:
        from . import timeline
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"The Python package {error.name} is not installed.", "Pillow draws the timeline.", "Run: pip install pillow"
        ) from error
    return timeline


COMMANDS = {
    "mux": (add_mux, run_mux, "put a sound onto a video: mixed, ducked, as loud as asked"),
    "timeline": (add_timeline, run_timeline, "a picture of a clip: frames, motion, sound and onsets on one axis"),
}
