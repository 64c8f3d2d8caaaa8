"""Installing this pack changes no package that is there, whatever other packs have pinned.

The requirement lists are those of ten widely used packs, read in their public repositories at the commits named, where they
give a version or name what this pack needs too. pip itself is asked what it would do about their lines and ours together,
without a network: it fails if it wanted anything.
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
# repository@commit: its lines, and versions that they lead to beside, or in place of, ComfyUI's.
PACKS = {
    "ltdrdata/ComfyUI-Manager@24204eb": (["matrix-client==0.4.0"], {"matrix-client": "0.4.0"}),
    "ltdrdata/ComfyUI-Impact-Subpack@05f1fbc": (["ultralytics!=8.0.177"], {"ultralytics": "8.1.0", "numpy": "1.26.4"}),
    "Kosinkadink/ComfyUI-VideoHelperSuite@9c716df": (
        ["opencv-python-headless", "imageio-ffmpeg"], {"opencv-python-headless": "4.9.0.80", "imageio-ffmpeg": "0.4.9"},
    ),
    "Fannovel16/comfyui_controlnet_aux@116db73": (
        ["opencv-python>=4.7.0.72", "torch", "numpy", "einops", "mediapipe"],
        {"opencv-python": "4.7.0.72", "mediapipe": "0.10.9", "numpy": "1.26.4"},
    ),
    "WASasquatch/was-node-suite-comfyui@02d9afb": (
        ["numpy<1.24>=1.18", "scikit-image==0.20.0", "transformers==4.26.1", "fairscale>=0.4.4", "timm>=0.4.12"],
        {"numpy": "1.23.5", "scikit-image": "0.20.0", "transformers": "4.26.1", "fairscale": "0.4.4", "timm": "0.4.12"},
    ),
    "kijai/ComfyUI-KJNodes@17a6b35": (
        ["pillow>=10.3.0", "numpy", "librosa"], {"pillow": "10.3.0", "librosa": "0.10.1", "numpy": "1.26.4"},
    ),
    "city96/ComfyUI-GGUF@1652129": (["gguf>=0.9.1", "numpy<2.0.0"], {"gguf": "0.9.1", "numpy": "1.26.4"}),
    "kijai/ComfyUI-Florence2@0f4425f": (
        ["transformers>=4.39.0,<=4.49.0", "pillow>=10.2.0", "accelerate>=0.26.0"],
        {"transformers": "4.49.0", "pillow": "10.2.0", "accelerate": "0.26.0"},
    ),
    "Gourieff/ComfyUI-ReActor@3f9c7a5": (
        ["albumentations>=1.4.16", "insightface>=0.7.3", "onnx>=1.14.0", "opencv-python>=4.7.0.72", "numpy>=1.26.4"],
        {"albumentations": "1.4.16", "insightface": "0.7.3", "onnx": "1.14.0", "opencv-python": "4.7.0.72", "numpy": "1.26.4"},
    ),
    "chflame163/ComfyUI_LayerStyle@019b492": (
        ["numpy<2.0", "transformers>=4.43.3", "huggingface_hub>=0.23.3", "bitsandbytes>=0.41.1", "torch"],
        {"numpy": "1.26.4", "huggingface-hub": "0.23.3", "bitsandbytes": "0.41.1", "torch": "2.1.0"},
    ),
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


@pytest.mark.parametrize("pack", PACKS)
def test_nothing_installed_changes(bare, pack):
    lines, versions = PACKS[pack]
    install(bare, {**COMFYUI, **versions})
    changed, output = would_change(bare, lines)
    assert not changed, f"the environment is not one that this pack's own list leads to: {output}"
    changed, output = would_change(bare, [*lines, *requirements()])
    assert not changed, output


def test_nothing_changes_where_all_ten_are(bare):
    """Their lists contradict each other (transformers, numpy); what is there is one of the outcomes, and stays."""
    versions = {name: version for _, found in PACKS.values() for name, version in found.items()}
    install(bare, {**COMFYUI, **versions})
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
