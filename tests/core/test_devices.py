"""The core on a second device: nothing mixes with the CPU's tensors, and no step waits for the device."""

import pytest
import torch

from hunyuan_foley_core import cli, media
from tests import videos
from tests.core.parity import relative_error
from tests.pretend_device import NAME, pretend_device

SECONDS = 12  # of sound that is made in windows


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return videos.make_video(tmp_path_factory.mktemp("videos") / "clip.mp4", frames=30, waveform=videos.sine(1.0))


@pytest.fixture
def generate(models, tmp_path):
    """`generate(device, steps, ...)`: the waveform that the command line makes, in float32."""
    def generate(device: str, steps: int, *more) -> torch.Tensor:
        out = tmp_path / f"{device}.wav"
        words = ["generate", "--models", models, "--out", out, "--steps", steps, "--device", device, "--dtype", "fp32", *more]
        assert cli.main([str(word) for word in words]) == 0
        return media.read_audio(out)[0]

    return generate


@pytest.fixture(params=["video", "long, prompts by time"])
def words(request, video):
    timed = ["--timed", "0:01-0:03 a bell", "--timed", "* rain"]
    return ["--video", video, "--prompt", "rain"] if request.param == "video" else ["--seconds", SECONDS, *timed]


def test_the_sound_is_that_of_the_cpu(generate, words):
    expected = generate("cpu", 3, *words)
    with pretend_device():
        made = generate(NAME, 3, *words)
    assert expected.std() > 0.01 and relative_error(made, expected) <= 1e-4


def test_no_step_waits_for_the_device(generate, words):
    counts = []
    for steps in (2, 5):
        with pretend_device() as crossed:
            generate(NAME, steps, *words)
        counts.append(crossed)
    assert counts[0] == counts[1] and counts[0]["to device"] > 0


def test_to_mix_devices_fails_as_on_a_gpu():
    with pretend_device() as crossed:
        here = torch.ones(2)
        there = here.to(NAME)
        with pytest.raises(RuntimeError, match="same device, but add"):
            here + there
        assert there.device.type == NAME and (there + 1).cpu().tolist() == [2, 2] and float(there.sum()) == 2
    assert crossed == {"to device": 1, "to host": 1, "read": 1}
