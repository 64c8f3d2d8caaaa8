"""The command line, end to end on small random weights of the released layout."""

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from hunyuan_foley_core import cli, cli_generate, media
from hunyuan_foley_core.errors import MediaError
from scripts import small_weights
from tests import videos

ROOT = Path(__file__).parent.parent.parent
FAST = ["--steps", "3", "--prompt", "a ball bounces"]


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    return videos.make_video(path, frames=30, waveform=videos.sine(1.0))


def generate(models, out, *more) -> int:
    return cli.main(["generate", "--models", str(models), "--out", str(out), *FAST, *map(str, more)])


def test_a_video_gets_sound_and_keeps_its_picture(models, video, tmp_path):
    assert generate(models, tmp_path / "out.mp4", "--video", video) == 0
    assert videos.packets(tmp_path / "out.mp4") == videos.packets(video)
    waveform, rate = media.read_audio(tmp_path / "out.mp4")
    assert rate == 48_000
    assert abs(waveform.shape[-1] / rate - media.probe(video).duration) < 0.05
    assert waveform.std() > 0.01


def test_equal_seeds_make_equal_sound_and_others_do_not(models, video, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert generate(models, tmp_path / f"{name}.wav", "--video", video, "--seed", seed) == 0
    a, b, c = (media.read_audio(tmp_path / f"{name}.wav")[0] for name in "abc")
    assert np.array_equal(a, b) and not np.array_equal(a, c)


def test_the_guidance_interval_changes_the_sound_and_must_be_one(models, tmp_path, capsys):
    runs = {"all": [], "some": ["--cfg-interval", 0.7, 0.2], "none": ["--cfg-interval", 0, 0], "cfg 1": ["--cfg", 1]}
    sounds = {}
    for name, more in runs.items():
        assert generate(models, tmp_path / "x.wav", "--seconds", "0.5", *more) == 0
        sounds[name] = (tmp_path / "x.wav").read_bytes()
    assert sounds["none"] == sounds["cfg 1"] and len(set(sounds.values())) == 3
    assert generate(models, tmp_path / "y.wav", "--seconds", "0.5", "--cfg-interval", 0.2, 0.7) == 1
    assert "from sigma 0.2 down to 0.7" in capsys.readouterr().err and not (tmp_path / "y.wav").exists()


def test_prompt_picture_and_tag_each_change_the_sound(models, video, tmp_path):
    runs = {"base": ["--video", video], "text only": ["--seconds", "1"], "no tag": ["--video", video, "--no-tag"], "negative": ["--video", video, "--negative", "wind"]}
    sounds = {}
    for name, more in runs.items():
        assert generate(models, tmp_path / "x.flac", *more) == 0
        sounds[name] = np.asarray(media.read_audio(tmp_path / "x.flac")[0])[..., :40_000]
    for name in list(runs)[1:]:
        assert not np.allclose(sounds["base"], sounds[name], atol=1e-4), name


def test_a_lora_changes_the_sound_by_its_strength(models, tmp_path, capsys):
    generator, key = torch.Generator().manual_seed(0), "diffusion_model.single_blocks.0.linear1"
    up, down = torch.randn(128, 4, 1, generator=generator), torch.randn(4, 128, 3, generator=generator)
    save_file({f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}, tmp_path / "lora.safetensors")
    runs = {"plain": [], "off": ["--lora-strength", 0], "on": []}
    for name, more in runs.items():
        lora = [] if name == "plain" else ["--lora", tmp_path / "lora.safetensors"]
        assert generate(models, tmp_path / f"{name}.wav", "--seconds", "1", *lora, *more) == 0
    plain, off, on = (media.read_audio(tmp_path / f"{name}.wav")[0] for name in runs)
    assert np.array_equal(plain, off) and not np.array_equal(plain, on)
    save_file({"lora_A": down}, tmp_path / "lora.safetensors")
    assert generate(models, tmp_path / "x.wav", "--lora", tmp_path / "lora.safetensors") == 1
    assert "unknown keys: lora_A" in capsys.readouterr().err


def test_text_alone_has_the_length_asked_for(models, tmp_path):
    assert generate(models, tmp_path / "rain.flac", "--seconds", "1.3") == 0
    waveform, rate = media.read_audio(tmp_path / "rain.flac")
    assert (waveform.shape[-1], rate) == (62_400, 48_000)


@pytest.mark.parametrize("more, message", [
    (["--seconds", "1"], "has to be a .wav or .flac"),
    (["--video", "missing.mp4"], "missing.mp4"),
    (["--video", "CLIP", "--vae", "nowhere.pth"], "nowhere.pth"),
])
def test_mistakes_give_one_paragraph_and_write_nothing(models, video, tmp_path, capsys, more, message):
    more = [video if part == "CLIP" else part for part in more]
    assert generate(models, tmp_path / "out.mp4", *more) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error and list(tmp_path.iterdir()) == []


def test_a_folder_without_models_says_what_is_missing(tmp_path, capsys):
    assert generate(tmp_path, tmp_path / "x.wav") == 1
    assert "No file under" in capsys.readouterr().err


def test_two_candidates_ask_for_a_choice(models, tmp_path, capsys):
    import shutil

    shutil.copytree(models, tmp_path / "m")
    shutil.copy(models / small_weights.TRANSFORMER, tmp_path / "m" / "second.pth")
    assert generate(tmp_path / "m", tmp_path / "x.wav", "--seconds", "1") == 1
    assert "--transformer FILE" in capsys.readouterr().err
    assert generate(tmp_path / "m", tmp_path / "x.wav", "--seconds", "1", "--transformer", tmp_path / "m" / "second.pth") == 0


def test_an_interrupt_leaves_nothing_behind(models, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_generate, "generate_takes", interrupted)
    assert generate(models, tmp_path / "x.wav", "--seconds", "1") == 130
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_a_file_is_said_once(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=120)
    videos.damage(source, 0.4, 0.5)
    command = [sys.executable, "-m", "hunyuan_foley_core", "timeline", str(source), "--out", str(tmp_path / "a.png")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = done.stderr.strip().splitlines()
    assert done.returncode == 0 and said and len(set(said)) == len(said), done.stderr


def test_names_that_a_pipe_cannot_hold_are_told_all_the_same(tmp_path):
    """A pipe on Windows is often cp1252."""
    video, out = videos.make_video(tmp_path / "a.mp4", frames=5, waveform=videos.sine(0.2)), tmp_path / f"{chr(0x96e8)}.mp4"
    command = [sys.executable, "-m", "hunyuan_foley_core", "mux", str(video), str(video), "--out", str(out)]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stdout.strip().endswith(r"\u96e8.mp4"), done.stderr


def test_convert_runs_as_a_command(models, tmp_path):
    target = tmp_path / "transformer.safetensors"
    command = [sys.executable, "-m", "hunyuan_foley_core", "convert", str(models / small_weights.TRANSFORMER), str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == str(target), done.stderr
    before = torch.load(models / small_weights.TRANSFORMER, weights_only=True)
    assert all(torch.equal(before[key], value) for key, value in load_file(target).items())


def test_what_cannot_be_written_is_said_before_any_work(models, video, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cli_generate, "generate_takes", lambda *_: pytest.fail("worked first"))
    assert generate(models, tmp_path / "out.webm", "--video", video) == 1
    assert "h264, which .webm files cannot hold" in capsys.readouterr().err
    silent = videos.make_video(tmp_path / "silent.mp4")
    assert generate(models, tmp_path / "out.mp4", "--video", silent, "--mix") == 1
    assert "no sound" in capsys.readouterr().err


def test_sound_that_cannot_be_muxed_is_kept(models, video, tmp_path, monkeypatch, capsys):
    def full_disk(*_, **__):
        raise MediaError("No room left.")

    monkeypatch.setattr(media, "mux", full_disk)
    assert generate(models, tmp_path / "out.mp4", "--video", video) == 1
    assert f"kept in {tmp_path / 'out.flac'}" in capsys.readouterr().err
    assert media.read_audio(tmp_path / "out.flac")[0].std() > 0.01


def test_the_output_plays(models, video, tmp_path):
    assert generate(models, tmp_path / "out.mkv", "--video", video) == 0
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


@pytest.mark.parametrize("device", ["banana", "cuda:99", "meta", ""])
@pytest.mark.parametrize("words", [
    ("generate", "--prompt", "rain", "--out", "x.wav"), ("prepare", "clips", "cache", "--models", "m"),
])
def test_a_device_that_is_not_here_is_said(tmp_path, monkeypatch, capsys, words, device):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips").mkdir()
    assert cli.main([*words, "--device", device]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"A setting does not fit. The device is {device!r}: ") and len(said) < 400
    assert list(tmp_path.iterdir()) == [tmp_path / "clips"]
