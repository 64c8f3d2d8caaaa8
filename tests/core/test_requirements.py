"""Installing this pack changes no package that is there, whatever other packs have pinned.

Each environment below holds versions that requirement lists of widely used kinds of packs lead to: invented for this test,
but of the form such lists have. pip itself is asked what it would do, without a network: it fails if it wanted anything.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import environment
import pytest

ROOT = Path(__file__).parents[2]
# What ComfyUI 0.3.75 asks for by itself, at the least versions it takes.
COMFYUI = {
    "torch": "2.1.0", "torchvision": "0.16.0", "torchaudio": "2.1.0", "numpy": "1.25.0", "einops": "0.6.0", "pillow": "10.0.0",
    "transformers": "4.50.3", "tokenizers": "0.13.3", "safetensors": "0.4.2", "av": "14.2.0", "scipy": "1.11.0",
}
PINS = {
    "a manager": {"huggingface-hub": "0.20.0", "typing-extensions": "4.8.0", "gitpython": "3.1.30"},
    "control preprocessors": {"numpy": "1.26.4", "opencv-python": "4.7.0.72", "mediapipe": "0.10.9", "scikit-image": "0.21.0"},
    "video helpers": {"opencv-python": "4.9.0.80", "imageio-ffmpeg": "0.4.9", "av": "14.2.0"},
    "detection and segmentation": {"numpy": "1.26.4", "ultralytics": "8.1.0", "opencv-python-headless": "4.8.1.78"},
    "masks and small helpers": {"numpy": "1.26.4", "pillow": "10.3.0", "color-matcher": "0.5.0", "matplotlib": "3.8.0"},
    "video generators": {"diffusers": "0.33.0", "accelerate": "1.2.1", "peft": "0.17.0", "transformers": "4.50.3"},
    "quantised models": {"gguf": "0.13.0", "sentencepiece": "0.2.0", "protobuf": "3.20.3", "numpy": "1.26.4"},
    "faces": {"insightface": "0.7.3", "onnxruntime": "1.17.1", "numpy": "1.25.2", "albumentations": "1.3.1"},
    "frame interpolation": {"torch": "2.4.1", "torchvision": "0.19.1", "kornia": "0.7.1", "einops": "0.6.1"},
    "speech": {"torch": "2.3.1+cu121", "torchaudio": "2.3.1", "tokenizers": "0.19.1", "numpy": "1.26.4"},
}
NAME = re.compile(r"[A-Za-z0-9_-]+")


def requirements() -> list[str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """A Python with nothing installed; pip looks at it from outside."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", str(folder)], check=True)
    return folder


def install(bare: Path, versions: dict[str, str]) -> None:
    """Leaves the traces of these packages that pip goes by, and no others."""
    (site,) = bare.glob("lib/python*/site-packages")
    for folder in site.glob("*.dist-info"):
        shutil.rmtree(folder)
    for name, version in versions.items():
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (folder / "INSTALLER").write_text("pip\n")
        (folder / "RECORD").touch()


def would_change(bare: Path, wanted: list[str]) -> tuple[bool, str]:
    pip = [*environment.pip_for(bare / "bin" / "python"), "--disable-pip-version-check", "install", "--dry-run", "--no-index"]
    asked = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
    return bool(asked.returncode) or "Would install" in asked.stdout, asked.stdout + asked.stderr


@pytest.mark.parametrize("others", PINS)
def test_nothing_installed_changes(bare, others):
    install(bare, {**COMFYUI, **PINS[others]})
    changed, output = would_change(bare, requirements())
    assert not changed, output


def test_a_change_would_be_noticed(bare):
    install(bare, {**COMFYUI, "numpy": "1.26.4"})
    assert would_change(bare, ["numpy>=2"])[0]
    assert would_change(bare, ["not-there"])[0]


def test_no_requirement_has_a_version():
    assert requirements() and all(NAME.fullmatch(line) for line in requirements())


def test_the_two_lists_are_one():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*)\]$", text, re.MULTILINE).group(1)
    assert re.findall(r'"(.+?)"', listed) == requirements()


def test_extras_have_no_versions_either():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.search(r"^\[project.optional-dependencies\]\n(.*?)\n\n", text, re.MULTILINE | re.DOTALL).group(1)
    names = [name for line in extras.splitlines() for name in re.findall(r'"(.+?)"', line.partition("#")[0])]
    assert names and all(NAME.fullmatch(name) for name in names)


def test_comfyui_brings_all_of_them(require):
    folder = os.environ.get("FOLEY_COMFYUI", "")
    require(folder, "a ComfyUI: run the tests with `python scripts/run.py test`")
    lines = (Path(folder) / "requirements.txt").read_text().splitlines()
    brought = {re.split(r"[^A-Za-z0-9_.-]", line.strip())[0].lower() for line in lines if line.strip() and line[0] != "#"}
    assert set(requirements()) <= brought
