"""The zip that the registry hands out: what is in it, how large it is, and that it needs nothing else of the repository."""

import subprocess
import sys
import zipfile
from pathlib import PurePath

import published
import pytest

from hunyuan_foley_core import small_model

ROOT = published.ROOT
TOP = {
    "LICENSE", "README.md", "__init__.py", "docs", "hunyuan_foley_core", "locales", "nodes", "pyproject.toml",
    "requirements.txt", "web", "weights", "workflows",
}
KINDS = {".py", ".js", ".toml", ".safetensors", ".json", ".md", ".txt", ".jpg", ".png", ".mp4", ""}
MOST = 32e6  # bytes unpacked; the small model alone may have 25 MB


@pytest.fixture(scope="module")
def names():
    return published.files()


def test_only_what_is_needed_is_published(names):
    assert {name.split("/")[0] for name in names} <= TOP
    assert [name for name in names if name.startswith("docs/")] == ["docs/errors.md"]
    assert {PurePath(name).suffix for name in names} <= KINDS
    assert not [name for name in names if "/." in f"/{name}" or "__pycache__" in name]
    assert sum((ROOT / name).stat().st_size for name in names) < MOST


def test_nothing_that_is_needed_is_left_out(names):
    code = [path for top in ("nodes", "hunyuan_foley_core") for path in (ROOT / top).rglob("*")]
    needed = [path for path in code if path.suffix in (".py", ".toml")]
    needed += [small_model.FOLDER / name for name in (*small_model.WEIGHTS, small_model.TOKENIZER)]
    needed += [path.with_suffix(kind) for path in (ROOT / "workflows").glob("*.json") for kind in (".json", ".jpg")]
    published_paths = {ROOT / name for name in names}
    tracked = {ROOT / name for name in published.tracked()}
    assert not {path for path in needed if path in tracked} - published_paths
    assert {ROOT / name for name in ("__init__.py", "requirements.txt", "pyproject.toml", "LICENSE")} <= published_paths


@pytest.mark.parametrize(("path", "rules", "left_out"), [
    ("/docs/a.md", ["/docs/"], True), ("/web/docs/a.md", ["/docs/"], False), ("/docs", ["/docs"], True),
    ("/docs.md", ["/docs"], False), ("/docs/b/c.md", ["/docs/*", "!/docs/a.md"], True),
    ("/docs/a.md", ["/docs/*", "!/docs/a.md"], False), ("/docs/a.md", ["!/docs/a.md", "/docs/*"], True),
])
def test_rules_begin_at_the_root_and_the_last_one_counts(path, rules, left_out):
    assert published.is_left_out(path, rules) is left_out


def test_a_rule_that_would_be_read_otherwise_is_refused(tmp_path, monkeypatch):
    (tmp_path / published.IGNORED).write_text("# why\n*.pyc\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=r"\*\.pyc"):
        published.ignored()


def test_a_copy_without_git_gives_the_same_kind_of_list(tmp_path, monkeypatch):
    for name in ("nodes/a.py", "tests/b.py", "output/c.wav", "nodes/__pycache__/a.pyc", ".env/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / published.IGNORED).write_text("/tests/\n")
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert published.files() == ["nodes/a.py"]


def test_the_unpacked_zip_makes_sound_by_itself(tmp_path):
    """Started by its path, in a Python that ignores folder and environment, as that of ComfyUI's portable build does."""
    folder = tmp_path / "unpacked elsewhere"
    published.write(tmp_path / "pack.zip")
    zipfile.ZipFile(tmp_path / "pack.zip").extractall(folder)
    command = ["generate", "--prompt", "hammering on a glass block", "--seconds", "0.64", "--steps", "1", "--out", "sound.wav"]
    made = subprocess.run(
        [sys.executable, "-I", str(folder / "hunyuan_foley_core"), *command], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "sound.wav").stat().st_size > 0.64 * 48_000 * 2
    assert not list(folder.glob("tests"))
