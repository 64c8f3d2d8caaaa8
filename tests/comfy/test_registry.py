"""The published pack before the registry's own tools, and in a real ComfyUI under a folder name of its user's choosing."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import environment
import published
import pytest
from comfy_server import ComfyServer

from hunyuan_foley_core import media

ROOT = published.ROOT
NAME = "My-foley.pack_2"  # no space: ComfyUI then finds neither templates nor help, of any pack
GRAPH = json.loads((ROOT / "workflows" / "api" / "text_to_foley.json").read_text(encoding="utf-8"))
SECONDS = 0.64


@pytest.fixture(scope="module")
def tools(require):
    """Folder of comfy-cli's and comfy-test's programs, installed once under .env."""
    try:
        return environment.registry_tools()
    except environment.SetupError as error:
        require(False, f"comfy-cli and comfy-test: {error}")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, require):
    """A git checkout of what is tracked here: comfy-cli writes its zip into the folder it packs."""
    require(shutil.which("git"), "git")
    folder = tmp_path_factory.mktemp("checkout")
    for name in published.tracked():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def renamed(comfyui, tmp_path_factory):
    """A server whose only pack is the published zip, unpacked under another name."""
    base = tmp_path_factory.mktemp("renamed")
    published.write(base / "pack.zip")
    zipfile.ZipFile(base / "pack.zip").extractall(base / "custom_nodes" / NAME)
    with ComfyServer(comfyui, base, threads=1) as server:
        yield server


def run(program: Path, *words: str, cwd: Path, **variables: str) -> tuple[int, str]:
    environ = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **variables}
    done = subprocess.run(
        [str(program), *words], cwd=cwd, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_comfy_cli_finds_nothing_to_say(tools, checkout, tmp_path):
    options = ["--skip-prompt", "--no-enable-telemetry"]
    code, said = run(tools / "comfy", *options, "node", "validate", cwd=checkout, HOME=str(tmp_path))
    assert code == 0 and "All validation checks passed" in said, said
    assert "arning" not in said and "rror" not in said, said


def test_comfy_cli_packs_the_files_that_we_expect(tools, checkout, tmp_path):
    options = ["--skip-prompt", "--no-enable-telemetry"]
    code, said = run(tools / "comfy", *options, "node", "pack", cwd=checkout, HOME=str(tmp_path))
    assert code == 0, said
    (packed,) = checkout.glob("*.zip")
    assert sorted(zipfile.ZipFile(packed).namelist()) == published.files()


def test_comfy_test_passes_up_to_registration(tools, renamed, tmp_path):
    shutil.copy(renamed.log, tmp_path / "server.log")  # where import errors are looked for
    code, said = run(
        tools / "comfy-test", "run", "--server-url", renamed.url, "--level", "registration",
        "--config", str(ROOT / "comfy-test.toml"), cwd=renamed.base / "custom_nodes" / NAME,
        HOME=str(tmp_path), COMFY_TEST_LOGS_DIR=str(tmp_path), COMFY_TEST_WORKSPACE_DIR=str(tmp_path), TMPDIR=str(tmp_path),
    )
    assert code == 0, said
    for level in ("[1/3] SYNTAX", "[2/3] INSTALL", "[3/3] REGISTRATION", "No import errors detected"):
        assert level in said, said


def test_the_renamed_pack_makes_sound(renamed):
    values = {"steps": 1, "seconds": SECONDS}
    graph = json.loads(json.dumps(GRAPH))
    for node in graph.values():
        node["inputs"].update({key: value for key, value in values.items() if key in node["inputs"]})
    result = renamed.run(graph)
    assert result.status == "success", result.message
    waveform, rate = media.read_audio(str(result.files(renamed.base)[0]))
    assert waveform.shape[-1] == round(SECONDS * rate) and waveform.abs().max() > 0


def test_the_renamed_pack_brings_its_workflows(renamed):
    shipped = {path.stem for path in (ROOT / "workflows").glob("*.json")} & {Path(name).stem for name in published.files()}
    assert shipped and set(renamed.get("/workflow_templates")[NAME]) == shipped
    first = f"/api/workflow_templates/{NAME}/{min(shipped)}.json"
    assert renamed.get(first)["nodes"]
