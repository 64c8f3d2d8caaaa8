"""The README's first command, as a newcomer gives it."""

import subprocess
import sys

import av
import numpy as np
from environment import ROOT
from PIL import Image


def demo(comfyui, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "scripts/run.py", "demo", "--comfyui", comfyui, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_film_comes_back_with_sound_and_a_picture_of_it(comfyui, films, tmp_path):
    out = tmp_path / "made" / "rabbit.mp4"
    film = films / "bigbuckbunny.mp4"
    result = demo(comfyui, "--video", film, "--steps", "2", "--out", out)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "random" in result.stdout and "noise" in result.stdout
    assert str(out) in result.stdout and str(out.with_suffix(".png")) in result.stdout
    with av.open(str(out)) as made, av.open(str(film)) as original:
        pictures, theirs = ([bytes(packet) for packet in film.demux(video=0)] for film in (made, original))
        assert pictures == theirs
    with av.open(str(out)) as made:
        sound = np.concatenate([frame.to_ndarray() for frame in made.decode(audio=0)], axis=1)
        assert made.streams.audio[0].rate == 48_000
    assert np.isfinite(sound).all() and 0.01 < sound.std() and np.abs(sound).max() < 1
    assert Image.open(out.with_suffix(".png")).width == 1600


def test_a_video_that_is_none_is_refused_in_one_paragraph(comfyui, tmp_path):
    wrong = tmp_path / "notes.mp4"
    wrong.write_text("no video")
    result = demo(comfyui, "--video", wrong)
    assert result.returncode == 1
    assert "notes.mp4" in result.stdout and "Traceback" not in result.stdout + result.stderr
