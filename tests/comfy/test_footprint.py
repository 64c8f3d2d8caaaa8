"""What the published pack, under another folder name, changes in a ComfyUI that loads it: its nodes and its model folder."""

import json
import subprocess
import sys
import zipfile

import published
import pytest

ROOT = published.ROOT
NAME = "Another name-2.0"  # a space, a capital, a dot: Windows' Explorer makes such names
RUDE = '''
import logging, os, random, sys
import comfy.sd, comfy.utils, folder_paths, server, torch

random.random()
os.environ["RUDE"] = "1"
sys.path.append("/rude")
logging.getLogger("aiohttp.access").setLevel(logging.CRITICAL)
logging.getLogger("rude")
torch.set_default_dtype(torch.float64)
torch.zeros(1)
comfy.sd.load_lora_for_models = lambda *a: None
comfy.utils.ProgressBar.update = lambda *a: None
folder_paths.folder_names_and_paths["loras"][0].append("/rude")

@server.PromptServer.instance.routes.get("/rude")
async def rude(request): return None

import nodes
NODE_CLASS_MAPPINGS = {"Rude": nodes.KSampler, "KSampler": nodes.SaveImage}
'''


@pytest.fixture(scope="module")
def footprints(comfyui, tmp_path_factory):
    """What `scripts/footprint.py` finds for the published pack, and for one that does all it should not."""
    folder = tmp_path_factory.mktemp("custom_nodes")
    published.write(folder / "pack.zip")
    zipfile.ZipFile(folder / "pack.zip").extractall(folder / NAME)
    (folder / "rude").mkdir()
    (folder / "rude" / "__init__.py").write_text(RUDE)
    script = [sys.executable, str(ROOT / "scripts" / "footprint.py"), str(comfyui), str(folder / NAME), str(folder / "rude")]
    found = subprocess.run(script, capture_output=True, text=True, check=False)
    assert not found.returncode, found.stderr[-2000:]
    return json.loads(found.stdout)


def test_the_renamed_pack_has_all_its_nodes(footprints):
    listed = (ROOT / "nodes" / "extension.py").read_text().partition("return [")[2].partition("]")[0]
    assert footprints[0]["loaded"]
    assert footprints[0]["nodes"] == sorted(name.strip() for name in listed.split(",") if name.strip())
    assert all(name.startswith("Foley") for name in footprints[0]["nodes"])


def test_nothing_else_changes(footprints):
    changed = footprints[0]["changed"]
    assert changed.pop("model folders") == ["foley"]
    assert changed.pop("web folders", [NAME]) == [NAME]  # the help pages
    assert not changed


def test_loading_brings_no_package_and_runs_no_torch(footprints):
    assert footprints[0]["packages"] == []  # ComfyUI has imported all that is needed
    assert footprints[0]["operations"] == []


def test_what_should_not_be_is_noticed(footprints):
    rude = footprints[1]
    assert rude["nodes"] == ["Rude"] and rude["operations"]
    changed = rude["changed"]
    assert changed.pop("process") == ["sys.path"]
    assert changed.pop("torch") == ["default type"]
    assert changed.pop("random numbers") == ["python"]
    assert changed.pop("environment") == ["RUDE"]
    assert changed.pop("model folders") == ["loras"]
    assert changed.pop("nodes") == ["KSampler"]
    assert changed.pop("loggers") == ["aiohttp.access", "rude"]
    assert "GET /rude" in changed.pop("routes")
    assert {"comfy.sd.load_lora_for_models", "comfy.utils.ProgressBar.update"} <= set(changed.pop("attributes"))
    assert not changed
