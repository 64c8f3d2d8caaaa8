"""What is done with sound that is there, on the command line: mixed, ducked, made loud, put onto a picture, drawn."""

import errno
import math

import pytest
import torch
from PIL import Image

from hunyuan_foley_core import cli, cli_media, media
from hunyuan_foley_core.errors import MediaError
from tests import loudness_meter, videos

RATE = 48_000


@pytest.fixture
def clip(tmp_path):
    """A video with a stereo tone at 44.1 kHz, and a mono sound of noise for it."""
    (tmp_path / "in").mkdir()
    video = videos.make_video(
        tmp_path / "in" / "clip.mp4", frames=60, waveform=videos.sine(2.0, rate=44_100, channels=2), audio_rate=44_100,
        audio_layout="stereo",
    )
    noise = 0.1 * torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    noise[:, : RATE // 2] = noise[:, 3 * RATE // 2 :] = 0
    return video, media.write_audio(tmp_path / "in" / "noise.flac", noise, RATE).path


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_mux_ducks_and_sets_loudness(clip, tmp_path):
    assert run("mux", *clip, "--out", tmp_path / "a.mkv", "--duck", "original", "--duck-depth", "18", "--gain", "-60") == 0
    waveform, _ = media.read_audio(tmp_path / "a.mkv")
    loud, quiet = (waveform[:, round(a * RATE) : round(b * RATE)].norm() for a, b in ((0.1, 0.4), (0.7, 1.0)))
    assert 20 * math.log10(quiet / loud) == pytest.approx(0, abs=1)  # 60 dB down, the new sound is not heard: no ducking
    assert run("mux", *clip, "--out", tmp_path / "b.mkv", "--duck", "original", "--duck-depth", "18") == 0
    noise, _ = media.read_audio(clip[1])
    tone = media.read_audio(tmp_path / "b.mkv")[0] - noise
    loud, quiet = (tone[:, round(a * RATE) : round(b * RATE)].norm() for a, b in ((0.1, 0.4), (0.7, 1.0)))
    assert 20 * math.log10(quiet / loud) == pytest.approx(-18, abs=1)
    assert run("mux", *clip, "--out", tmp_path / "c.flac", "--loudness", "-20", "--true-peak", "-2", "--rate", "48000") == 0
    waveform, _ = media.read_audio(tmp_path / "c.flac")
    assert loudness_meter.loudness(waveform) == pytest.approx(-20, abs=0.5) and loudness_meter.true_peak(waveform) < -2


def test_mux_alone_onto_a_picture_in_other_codecs_and_widths(clip, tmp_path):
    assert run("mux", *clip, "--out", tmp_path / "a.mov", "--codec", "pcm", "--rate", "96000", "--stereo-width", "1.5") == 0
    info = media.probe(tmp_path / "a.mov")
    assert (info.sample_rate, info.audio_channels) == (96_000, 2)
    assert videos.packets(tmp_path / "a.mov") == videos.packets(clip[0])


@pytest.mark.parametrize("more, message", [
    (["--codec", "flac", "--out", "a.mov"], "write a .mp4 or .mkv file"),
    (["--codec", "aac", "--out", "a.wav"], "Leave out --codec"),
    (["--rate", "1000", "--out", "a.mp4"], "output rate is 1000"),
    (["--duck", "foley", "--duck-depth", "99", "--out", "a.mp4"], "depth of ducking is 99"),
    (["--loudness", "3", "--out", "a.mp4"], "loudness asked for is 3"),
    (["--out", "missing/a.mp4"], "no folder"),
    (["--out", f"{'x' * 252}.wav"], "File name too long"),
    (["--out", "in.wav"], "it is a folder"),
])
def test_mistakes_are_said_before_work(clip, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.setattr(media, "read_audio", lambda *_, **__: pytest.fail("worked first"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.wav").mkdir()
    assert run("mux", *clip, *more) == 1
    assert message in capsys.readouterr().err and sorted(path.name for path in tmp_path.iterdir()) == ["in", "in.wav"]


def test_a_full_disk_loses_no_sound(clip, tmp_path, monkeypatch):
    """Neither the video nor a sound file fits where it was to go; the sound is kept where it does."""
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(cli_media.tempfile, "gettempdir", lambda: str(spare))
    real = media.write_audio

    def full(path, *rest, **others):
        if path.parent != spare:
            raise MediaError(f"{path} could not be written ({OSError(errno.ENOSPC, 'No space left on device').strerror}).")
        return real(path, *rest, **others)

    monkeypatch.setattr(media, "write_audio", full)
    monkeypatch.setattr(media, "mux", lambda *_, **__: full(tmp_path / "x.mp4"))
    args = cli.parser().parse_args(["generate", "--video", str(clip[0]), "--out", str(tmp_path / "x.mp4")])
    with pytest.raises(cli_media.FoleyError, match="No space left.* is kept in .*spare"):
        cli_media.write_sound(args, clip[0], torch.zeros(1, RATE), RATE, args.out)
    assert [path.name for path in spare.iterdir()] == ["x.flac"]


def test_a_sound_that_is_kept_takes_no_name_that_is_there(clip, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise MediaError("No room left.")

    monkeypatch.setattr(media, "mux", full_disk)
    for name in ("film.flac", "film_2.flac"):
        (tmp_path / name).write_bytes(b"somebody's sound")
    args = cli.parser().parse_args(["generate", "--video", str(clip[0]), "--out", str(tmp_path / "film.mov")])
    with pytest.raises(MediaError, match="is kept in .*film_3.flac"):
        cli_media.write_sound(args, clip[0], torch.zeros(1, RATE), RATE, args.out)
    assert (tmp_path / "film.flac").read_bytes() == (tmp_path / "film_2.flac").read_bytes() == b"somebody's sound"
    assert media.read_audio(tmp_path / "film_3.flac")[0].shape == (1, RATE)


def test_a_full_disk_leaves_no_half_file(clip, tmp_path, monkeypatch, capsys):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert run("mux", *clip, "--out", tmp_path / "a.mp4") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_timeline_with_and_without_sound(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    silent = videos.make_video(tmp_path / "silent.mp4", frames=1)
    (tmp_path / "clip.png").write_bytes(b"a picture of the user's")
    assert run("timeline", clip[0]) == 0 and run("timeline", silent, "--out", tmp_path / "s.png", "--width", "800") == 0
    assert run("timeline", silent, "--sound", clip[1], "--out", tmp_path / "t.png") == 0
    heights = [Image.open(tmp_path / name).size[1] for name in ("clip_timeline.png", "s.png", "t.png")]
    assert heights[0] == heights[2] > heights[1] + 300
    plan = ["--scenes", "0:01", "--timed", "0:00-0:01 a drum\n#2 rain", "--window", "1", "--overlap", "0.32"]
    assert run("timeline", clip[0], "--out", tmp_path / "u.png", *plan) == 0
    assert Image.open(tmp_path / "u.png").size[1] > heights[0] + 60
    assert (tmp_path / "clip.png").read_bytes() == b"a picture of the user's"
    assert run("timeline", silent, "--out", tmp_path / "t.jpg") == 1


def test_a_timeline_of_a_video_that_does_not_say_how_long_it_is(tmp_path, capsys):
    recording, heights = videos.make_recording(tmp_path / "recording.webm", frames=50, rate=25), []
    for plan in ([], ["--scenes", "0:01", "--timed", "0:00-0:01 a drum\n#2 rain"]):
        assert run("timeline", recording, "--out", tmp_path / "t.png", *plan) == 0
        heights.append(Image.open(tmp_path / "t.png").size[1])
    assert heights[1] > heights[0] + 60
    assert run("timeline", recording, "--out", tmp_path / "t.png", "--timed", "#7 rain") == 1
    assert "there is no scene 7" in capsys.readouterr().err
