"""The commands that do a sound again, wholly or in part: `retake`, `extend`, `vary`; and `loop`."""

import argparse
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import torch

from . import cli_media, cli_settings, cli_windows, media
from .conditions import latent_cut
from .editing import DEFAULT_FADE, Region, extend, retake, vary
from .errors import InputError
from .networks import Networks
from .pipeline import DEFAULT_SECONDS, check_scenes
from .scenes import decode_scenes, kept_cuts
from .seamless_loop import check_loop, decode_loop, features_around, loop_frames, margin_of
from .start import Start
from .timing import LATENT_RATE, SAMPLE_RATE

MOST_MISSING = 0.5  # seconds of picture that a sound may lack at its end and still be made to the picture
MOST_CUT = 0.1  # seconds of a new sound that may be lost at the picture's end: files do not end at the very sample

Command = argparse.ArgumentParser


def _add_common(command: Command, video: str) -> None:
    add = command.add_argument
    add("--video", type=Path, help=video)
    add("--out", type=Path, required=True, help="a .wav (keeps every old sample) or .flac, or a video, made of --video")
    cli_settings.add_prompts(command)
    cli_settings.add_sampling(command)
    cli_media.add_mix(command)
    cli_settings.add_models(command)


def _add_edit(command: Command) -> None:
    command.add_argument("audio", type=Path, help="the sound to work on, or a video that has one; any rate, channels")
    _add_common(command, "the picture of the sound; without it, or past its end, the prompt alone makes the new part")
    cli_windows.add_times(command)


def _add_fade(command: Command) -> None:
    command.add_argument(
        "--fade", type=float, default=DEFAULT_FADE,
        help="seconds over which old hands over to new (default: %(default)s)",
    )


def _add_strength(command: Command, default: float) -> None:
    command.add_argument(
        "--strength", type=float, default=default,
        help="0 keeps the sound, 1 makes a new one, less varies the old one (default: %(default)s)",
    )


def add_retake(command: Command) -> None:
    _add_edit(command)
    command.add_argument("--start", type=float, required=True, help="start of the region to make anew, in seconds")
    command.add_argument("--end", type=float, required=True, help="its end; outside of it every sample stays")
    _add_fade(command)
    _add_strength(command, 1.0)


def add_extend(command: Command) -> None:
    _add_edit(command)
    command.add_argument("--seconds", type=float, required=True, help="how much longer the sound is to be")
    _add_fade(command)


def add_vary(command: Command) -> None:
    _add_edit(command)
    _add_strength(command, 0.5)


def add_loop(command: Command) -> None:
    _add_common(command, "a video that loops; without it the prompt alone makes the sound")
    command.add_argument("--seconds", type=float, help="length without a video (default 8), or the most to use of one")


class _Edit:
    """What the edits share: a sound from a file, a codec for it, and a way to make latents to the picture.

    With scenes or prompts by time the model sees all of the sound, else what is around the new part.
    """

    def __init__(self, args: argparse.Namespace):
        cli_media.check_output(args, args.video, args.out)
        self.args, self.report = args, media.DecodeReport()
        self.waveform, self.sample_rate = media.read_audio(args.audio, report=self.report)
        times = cli_windows.times_of(args)
        self.timed, self.cuts = times["timed_prompts"], self._kept(times["cuts"])
        self.whole = bool(self.timed or self.cuts)
        self.files, self.settings = cli_settings.files_of(args), cli_settings.prompted_settings_of(args)

    @property
    def seconds(self) -> float:
        """Length of the sound that is there."""
        return self.waveform.shape[-1] / self.sample_rate

    @cached_property
    def picture(self) -> float | None:
        """Length of the video in seconds, for which all of it is read; None: not known, or there is none."""
        return self.args.video and media.picture_length(self.args.video)

    def check_heard(self, end: float) -> None:
        """InputError where the new sound, up to `end` seconds, would be cut off with the picture that it is put to."""
        args, end = self.args, end + self.args.offset
        if args.video is None or not cli_media.ends_with_picture(args):
            return
        if self.picture is not None and self.picture < end - MOST_CUT:
            raise InputError(
                f"The new sound ends at {end:.2f} s, the picture of {args.video.name} at {self.picture:.2f} s.",
                "A sound that is put to a picture is cut off where it ends.",
                "Write a .wav or .flac without mixing instead, or give a longer --video.",
            )

    def _kept(self, cuts: Sequence[float]) -> list[float]:
        check_scenes(cuts, self.args.video)
        return kept_cuts(cuts, self.picture) if cuts else []

    @property
    def _latent_cuts(self) -> list[int]:
        return [latent_cut(cut) for cut in self.cuts]

    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.networks.encode(waveform)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return decode_scenes(self.networks.decode, latents, self._latent_cuts)

    def run(self, edit: Callable[[torch.Tensor, int], tuple[torch.Tensor, int]]) -> Path:
        """Writes what `edit(sound [1, channels, N], sample rate)` gives of both."""
        with cli_settings.progress_line() as progress:
            self.networks = Networks(self.files, self.settings, progress)
            waveform, sample_rate = edit(self.waveform[None], self.sample_rate)
        args = self.args
        warnings = cli_media.write_sound(args, args.video, waveform[0], sample_rate, args.out)
        cli_settings.warn(self.report.warnings + warnings)
        return args.out

    def make(self, latents: torch.Tensor, mask: torch.Tensor | None, first: int) -> torch.Tensor:
        start = Start(latents, getattr(self.args, "strength", 1.0), mask)
        frames, args = latents.shape[-1], self.args
        features = self._features(first / LATENT_RATE, frames / LATENT_RATE)
        return self.networks.make(
            args.prompt, args.negative, features, frames, seed=args.seed, start=start, timed=self.timed,
            cuts=self._latent_cuts,
        )

    def _features(self, start: float, seconds: float):
        if self.args.video is None:
            return None
        if self.picture is not None and self.picture < start + seconds - MOST_MISSING:
            self.report.warnings.append(
                f"The picture ends at {self.picture:.2f} s, before the {start + seconds:.2f} s that are needed of it: the new "
                "part was made from the prompt alone."
            )
            return None
        cuts = kept_cuts(self.cuts, None, seconds)  # the sound may end before the last of them
        return self.networks.watch(self.args.video, start, seconds, self.report, cuts=cuts, hold=True)


def run_retake(args: argparse.Namespace) -> Path:
    it, region = _Edit(args), Region(args.start, args.end, args.fade)
    it.check_heard(args.end)

    def edit(sound: torch.Tensor, rate: int):
        return retake(sound, rate, region, it, it.make, whole=it.whole), rate

    return it.run(edit)


def run_extend(args: argparse.Namespace) -> Path:
    it = _Edit(args)
    it.check_heard(it.seconds + args.seconds)

    def edit(sound: torch.Tensor, rate: int):
        return extend(sound, rate, args.seconds, args.fade, it, it.make, whole=it.whole), rate

    return it.run(edit)


def run_vary(args: argparse.Namespace) -> Path:
    it = _Edit(args)
    return it.run(lambda sound, rate: (vary(sound, rate, it, it.make), SAMPLE_RATE))


def _loop_seconds(args: argparse.Namespace) -> float:
    """As long as the picture, to the sample: the model counts pictures, and mostly ends a little before it does."""
    length = args.video and media.picture_length(args.video)
    return min((seconds for seconds in (args.seconds, length) if seconds is not None), default=DEFAULT_SECONDS)


def run_loop(args: argparse.Namespace) -> Path:
    cli_media.check_output(args, args.video, args.out)
    files, report, features, seconds = cli_settings.files_of(args), media.DecodeReport(), None, _loop_seconds(args)
    check_loop(seconds)
    frames = loop_frames(seconds)
    margin = margin_of(frames)
    with cli_settings.progress_line() as progress:
        networks = Networks(files, cli_settings.prompted_settings_of(args), progress)
        if args.video is not None:
            features = features_around(networks.watch(args.video, 0.0, seconds, report, hold=True), frames, margin)
        latents = networks.make(args.prompt, args.negative, features, frames, seed=args.seed, margin=margin)
        waveform = decode_loop(latents, networks.decode, seconds)
    warnings = cli_media.write_sound(args, args.video, waveform[0], SAMPLE_RATE, args.out)
    cli_settings.warn(report.warnings + warnings)
    return args.out


COMMANDS = {
    "retake": (add_retake, run_retake, "make a region of a sound anew, and nothing else of it"),
    "extend": (add_extend, run_extend, "let a sound go on"),
    "vary": (add_vary, run_vary, "make a sound once more, more or less like it was"),
    "loop": (add_loop, run_loop, "make a sound whose end goes on into its beginning"),
}
