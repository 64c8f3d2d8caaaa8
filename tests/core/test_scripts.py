"""What the two commands say before they start anything, and what the demo draws."""

import sys

import environment
import numpy as np
import picture
import pytest
from PIL import Image


@pytest.fixture
def comfyui(tmp_path):
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.3.75"\n')
    return tmp_path


def test_a_folder_without_comfyui_is_refused(tmp_path):
    with pytest.raises(environment.SetupError, match="has no main.py"):
        environment.find(tmp_path)


def test_an_old_comfyui_is_refused(comfyui):
    (comfyui / "comfyui_version.py").write_text('__version__ = "0.3.9"\n')
    with pytest.raises(environment.SetupError, match=r"is 0\.3\.9; this pack needs 0\.3\.75"):
        environment.find(comfyui)


def test_a_python_without_comfyuis_packages_is_refused(comfyui, monkeypatch):
    monkeypatch.setattr(environment, "NEEDED_MODULES", ["json", "no_such_module"])
    with pytest.raises(environment.SetupError, match="lacks no_such_module"):
        environment.find(comfyui)


def test_the_portable_layout_is_found(comfyui, tmp_path_factory, monkeypatch):
    portable = tmp_path_factory.mktemp("portable")
    comfyui.rename(portable / "ComfyUI")
    python = portable / "python_embeded" / "python.exe"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setattr(environment, "NEEDED_MODULES", ["json"])
    assert environment.find(portable) == environment.Environment(portable / "ComfyUI", python)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("Retrying: Temporary failure in name resolution", "cannot be reached"),
        ("ERROR: No matching distribution found for torch==2.11.0", "no such package for this system"),
    ],
)
def test_pips_failures_are_put_in_words(output, words):
    assert words in environment._reason(output)


def test_the_picture_shows_a_tone_where_and_when_it_sounds(tmp_path):
    rate, seconds, frequency = 48_000, 4.0, 1000.0
    times = np.arange(round(rate * seconds)) / rate
    tone = 0.5 * np.sin(2 * np.pi * frequency * times) * (times >= 2)
    images = [(time, np.full((36, 64, 3), 200, np.uint8)) for time in np.arange(0, seconds, 1 / 8)]
    picture.draw(tmp_path / "tone.png", images, tone, rate, seconds, "a tone")
    drawn = np.asarray(Image.open(tmp_path / "tone.png")).astype(int).sum(axis=-1)
    assert drawn.shape[1] == 1600
    bottom = drawn.shape[0] - picture.MARGIN_BOTTOM
    spectrum = drawn[bottom - picture.SPECTRUM_HEIGHT : bottom, picture.MARGIN_LEFT : -picture.MARGIN_RIGHT]
    assert spectrum[:, : picture.PLOT_WIDTH * 2 // 5].max() < 30
    row = spectrum[:, picture.PLOT_WIDTH * 3 // 4].argmax()
    share = row / (picture.SPECTRUM_HEIGHT - 1)
    drawn_frequency = rate / 2 * (picture.LOWEST_HZ / (rate / 2)) ** share
    assert drawn_frequency == pytest.approx(frequency, rel=0.03)
