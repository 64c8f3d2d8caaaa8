"""Long clips, scenes and timed prompts on the command line, with the small model."""

import pytest
import torch

from hunyuan_foley_core import cli, media, pipeline
from hunyuan_foley_core.windows import WindowSettings, plan_windows
from tests import videos


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return videos.make_video(tmp_path_factory.mktemp("videos") / "clip.mp4", frames=60, rate=25)


@pytest.fixture
def make(tmp_path):
    def run(*more):
        out = tmp_path / "out.wav"
        command = ["generate", "--out", str(out), "--steps", "2", "--audio-only", *map(str, more)]
        return torch.as_tensor(media.read_audio(out)[0]) if cli.main(command) == 0 else None

    return run


def test_windows_change_a_long_sound_and_not_a_short_one(make, video):
    whole = make("--video", video)
    windowed, short = make("--video", video, "--window", 1.2, "--overlap", 0.4), make("--video", video, "--window", 3)
    assert torch.equal(whole, short) and windowed.shape == whole.shape
    assert not torch.allclose(whole, windowed, atol=1e-3)


def test_windows_with_another_overlap_are_as_long_as_the_weights_want(make, video, monkeypatch):
    laid_out = []
    monkeypatch.setattr(pipeline, "plan_windows", lambda *args: laid_out.append(args[1]) or plan_windows(*args))
    for more in (["--overlap", 1.92], ["--window", 6]):
        make("--video", video, *more)
    assert laid_out == [WindowSettings(198, 96, 400), WindowSettings(300, 48, 300)]


def test_timed_prompts_come_from_a_text_or_a_file(make, tmp_path):
    text = "0:00-0:01 hammering\n* rain"
    (tmp_path / "prompts.txt").write_text(text, encoding="utf-8-sig")  # as Notepad on Windows writes it
    given = make("--seconds", 2, "--timed", text)
    assert torch.equal(given, make("--seconds", 2, "--timed", tmp_path / "prompts.txt"))
    assert torch.equal(given, make("--seconds", 2, "--prompt", "rain", "--timed", text.replace("\n* rain", "")))
    assert not torch.allclose(given, make("--seconds", 2, "--prompt", "rain"), atol=1e-3)


def test_scenes_are_made_apart(make, video):
    whole, scenes = make("--video", video), make("--video", video, "--scenes", "0:01.2")
    assert scenes.shape == whole.shape and not torch.allclose(whole, scenes, atol=1e-3)
    assert torch.equal(whole, make("--video", video, "--scenes", "0:00.4"))  # too short, so that it joins the next
    part = make("--video", video, "--scenes", "0:01, 0:02.2", "--seconds", 2.1)  # the second cut is behind what is watched
    assert torch.equal(part, make("--video", video, "--scenes", "0:01", "--seconds", 2.1))
    second = make("--video", video, "--scenes", "0:01.2", "--timed", "#2 a bell")
    assert not torch.allclose(scenes, second, atol=1e-3)


@pytest.mark.parametrize("more, message", [
    (["--timed", "0:05-0:03 bell"], "Line 1, character 6"),
    (["--seconds", "2", "--timed", "0:04 bell"], "Line 1: the prompt begins at 0:04, and the clip ends at 0:02"),
    (["--timed", "missing.txt"], "missing.txt cannot be read"),
    (["--scenes", "0:01"], "There are cuts and no video"),
    (["--scenes", "detect"], "There is no video to find scenes in"),
    (["--video", "CLIP", "--scenes", "0:07"], "cut at 0:07, and the video ends at 0:02.4"),
    (["--window", "8", "--overlap", "8"], "8 and 1.92"),
])
def test_mistakes_are_named(make, video, capsys, more, message):
    assert make(*(video if part == "CLIP" else part for part in more)) is None
    assert message in capsys.readouterr().err
