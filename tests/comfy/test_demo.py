"""The README's first command, as a newcomer gives it."""

import re
import subprocess
import sys

import numpy as np
import picture
from environment import ROOT
from PIL import Image

from hunyuan_foley_core import media
from tests.videos import packets


def demo(comfyui, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/run.py", "demo", "--comfyui", comfyui, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_without_a_video_it_shows_a_clip_and_says_how_much_is_in_time(comfyui, tmp_path):
    out = tmp_path / "shown.mp4"
    result = demo(comfyui, "--steps", "10", "--out", out)
    assert result.returncode == 0, result.stdout + result.stderr
    example = ROOT / "workflows" / "foley_example.mp4"
    assert packets(out) == packets(example)
    found = re.search(r"(\d+) of the (\d+) hits in the picture .* within 60 ms; the sound has (\d+) starts", result.stdout)
    matched, true, starts = map(int, found.groups())
    assert true == 7 and matched <= min(true, starts)
    sound, rate = media.read_audio(out)
    assert rate == 48_000 and abs(sound.shape[1] / rate - 4) < 0.05 and sound.abs().max() > 0.01
    with Image.open(out.with_suffix(".png")) as drawn:
        yellow = (np.asarray(drawn.convert("RGB")) == picture.MARK).all(axis=-1).any(axis=0)
    assert np.diff(yellow.astype(int)).clip(0).sum() == true  # the marks do not touch
    assert "synthetic" not in result.stdout


def test_a_film_comes_back_with_sound_and_a_picture_of_it(comfyui, films, tmp_path):
    out = tmp_path / "made" / "rabbit.mp4"
    film = films / "bigbuckbunny.mp4"
    result = demo(comfyui, "--video", film, "--steps", "2", "--out", out)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "simple synthetic scenes only" in result.stdout and "not made for real footage" in result.stdout
    assert "hits in the picture" not in result.stdout  # nobody knows those
    assert str(out) in result.stdout and str(out.with_suffix(".png")) in result.stdout
    assert packets(out) == packets(film)
    sound, rate = media.read_audio(out)
    assert rate == 48_000 and abs(sound.shape[1] / rate - media.probe(film).duration) < 0.1
    assert sound.isfinite().all() and sound.std() > 0
    assert Image.open(out.with_suffix(".png")).width == 1600


def test_a_video_that_is_none_is_refused_in_one_paragraph(comfyui, tmp_path):
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("no video")
    result = demo(comfyui, "--video", wrong)
    assert result.returncode == 1
    assert "notes.mp4" in result.stdout and "Traceback" not in result.stdout + result.stderr
