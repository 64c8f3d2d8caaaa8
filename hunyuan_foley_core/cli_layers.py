"""`layers`: several sounds for one clip."""

import argparse
from pathlib import Path

from . import cli_media, cli_settings, cli_windows, media
from .layers import StemFolder, mix, read_layers
from .networks import Networks


def add_layers(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("layers", type=Path, help='a JSON file, {"layers": [{"name": "rain", "prompt": "rain", "gain_db": -6}, ...]}')
    add("--video", type=Path, help="the clip; without it the words alone make the sound")
    add("--out", type=Path, required=True, help="folder for the stems and mix.flac; what is unchanged there is kept")
    add("--film", type=Path, metavar="FILE", help="also write the video with the mix; the mixing options are for this")
    add("--seconds", type=float, help="length without a video (default 8), or the most to use of one (default: all)")
    cli_windows.add_scenes(command)
    cli_settings.add_sampling(command)
    cli_media.add_mix(command)
    cli_settings.add_models(command)


def run_layers(args: argparse.Namespace) -> Path:
    layers, report = read_layers(args.layers), media.DecodeReport()
    if args.film is not None:
        cli_media.check_output(args, args.video, args.film)
    settings = cli_settings.settings_of(args, cuts=cli_windows.cuts_of(args))
    cli_settings.make_folder(args.out)
    with cli_settings.progress_line() as progress:
        networks = Networks(cli_settings.files_of(args), settings, progress)
        folder = StemFolder(args.out, networks, args.video, args.seconds, report)
        folder.check(layers)
        try:
            stems = [folder.stem(layer) for layer in layers]
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Stopped; finished stems stay, and the same command goes on from there.") from None
    sound, _, rate = mix(
        [stem.waveform for stem in stems], [stem.sample_rate for stem in stems],
        [layer.gain_db for layer in layers], [layer.mute for layer in layers],
    )
    written = media.write_audio(args.out / "mix.flac", sound, rate).warnings
    if args.film is not None:
        written += cli_media.write_sound(args, args.video, sound, rate, args.film)
    kept = [f"{stem.layer.name}: unchanged, not made again." for stem in stems if not stem.is_new]
    cli_settings.warn(report.warnings + kept + written)
    return args.out / "mix.flac"


COMMANDS = {
    "layers": (add_layers, run_layers, "make several sounds for one clip, as stems and as a mix"),
}
