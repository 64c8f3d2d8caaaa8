"""Who may import whom, and what may never appear: the shape of the house, held by a test."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
CORE = ROOT / "hunyuan_foley_core"
# A part may import itself and anything further right.
ORDER = ["cli", "cli_doctor", "cli_download", "cli_data", "cli_evaluation", "cli_edit", "cli_layers", "cli_folder", "cli_generate", "cli_media", "cli_windows", "cli_settings", "evaluation", "train", "data", "batch", "timeline", "layers", "editing", "networks", "doctor", "pipeline", "download", "convert", "tensor_file", "sampling", "velocity", "seamless_loop", "start", "conditions", "scenes", "timed_prompts", "lora", "checkpoint", "first_bytes", "quantization", "encoders", "vae", "model", "windows", "media", "onsets", "progress", "ops", "timing", "config", "small_model", "places", "text_files", "whole_files", "errors"]
FORBIDDEN = {"comfy", "folder_paths", "nodes", "server", "torchvision", "torchaudio", "diffusers", "transformers", "audiotools", "loguru", "omegaconf"}
ALLOWED = {"torch", "numpy", "safetensors", "av", "einops", "tokenizers", "hunyuan_foley_core"}
# What a part alone may need; said when it is missing.
EXTRAS = {"doctor": {"psutil", "yaml"}, "timeline": {"PIL"}, "scenes": {"scenedetect"}, "download": {"huggingface_hub", "filelock", "certifi"}}
NETWORK = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "requests", "httpx", "aiohttp", "websockets", "huggingface_hub"}


def imports(path: Path):
    """Absolute module names of every import in a file, relative ones resolved within the core."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join((*base, *([node.module] if node.module else [])))
            yield from ([f"{stem}.{alias.name}" for alias in node.names] if node.level and not node.module else [stem])


def part(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


FILES = sorted(path for path in CORE.rglob("*.py") if path.name not in ("__main__.py",))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CORE)))
def test_imports_go_one_way(path):
    own = path.relative_to(CORE).with_suffix("").parts[0]
    for module in imports(path):
        top = module.split(".")[0]
        assert top not in FORBIDDEN
        if top != "hunyuan_foley_core":
            import sys

            assert top in ALLOWED | EXTRAS.get(own, set()) or top in sys.stdlib_module_names, f"{path.name} imports {module}"
        elif own != "__init__":
            assert ORDER.index(part(module)) >= ORDER.index(own), f"{own} may not import {part(module)}"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "nodes").glob("*.py"))], ids=lambda path: path.name)
def test_only_downloads_can_reach_the_network(path):
    if path.parent != CORE / "download":
        assert not {module.split(".")[0] for module in imports(path)} & NETWORK


def test_every_part_has_its_place():
    assert {path.relative_to(CORE).with_suffix("").parts[0] for path in FILES} - {"__init__"} <= set(ORDER)


@pytest.mark.parametrize("path", sorted(p for top in ("hunyuan_foley_core", "nodes", "tests", "scripts") for p in (ROOT / top).rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_sources_are_plain(path):
    """comfy-test's syntax level refuses these texts in any file, and characters outside cp1252."""
    text = path.read_text(encoding="utf-8")
    text.encode("cp1252")
    layers = ("Linear", "Conv1d", "Conv2d", "Conv3d", "LayerNorm", "GroupNorm", "Embedding", "ConvTranspose1d")
    for forbidden in [f"nn.{layer}" + "(" for layer in layers] + [".cud" + "a(", '.to("cud' + 'a")', "torch.auto" + "cast("]:
        assert forbidden not in text
