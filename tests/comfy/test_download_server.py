"""Foley Download Models in a real server, with a hub on this machine."""

import json
import subprocess
import sys
from pathlib import Path

import comfy_server
import pytest
import small_weights

from hunyuan_foley_core.errors import LicenceError

XL = "diffusion_models/hunyuanvideo_foley_xl.pth"


def graph(**changes) -> dict:
    inputs = {"model": "xl", "action": "do nothing", "accept_licence": False} | changes
    return {"download": {"class_type": "FoleyDownloadModels", "inputs": inputs}}


@pytest.fixture
def models(server, hub):
    """ComfyUI's models folder, afterwards as before: other tests count on what it holds."""
    hub.asked.clear()
    yield server.base / "models"
    for path in [server.base / "models" / XL, *server.base.glob("models/*/.*.part"), *server.base.glob("models/*/.*.lock")]:
        path.unlink(missing_ok=True)


def text(result) -> str:
    assert result.status == "success", result.message
    return "\n".join(result.outputs["download"]["text"])


def test_it_does_nothing_until_it_is_told_to(server, hub, models):
    assert "Nothing was done" in text(server.run(graph(accept_licence=True)))
    assert not hub.asked and not (models / XL).exists()


def test_the_list_comes_before_the_download(server, hub, models):
    listing = text(server.run(graph(action="list the files")))
    assert "hunyuanvideo_foley_xl.pth, 3.00 MB, to be downloaded" in listing and str(models / XL) in listing
    assert listing.count("is there already") == 5 and "does not extend to the European Union" in listing
    assert not (models / XL).exists() and all(path.startswith("/api/") for _, path in hub.asked)


def test_without_the_licences_accepted_the_error_is_shown_in_the_app(server, hub, models):
    result = server.run(graph(action="download"))
    assert result.status == "error" and result.error["node_type"] == "FoleyDownloadModels"
    assert result.message.startswith(f"{LicenceError.title()}. ") and result.message.endswith(f"[{LicenceError.link()}]")
    assert "switch on `accept_licence`" in result.message and not (models / XL).exists()


def test_a_download_shows_its_progress_and_can_be_cancelled_and_taken_up(server, hub, models):
    hub.faults.held = 1_000_000
    prompt = server.queue(graph(action="download", accept_licence=True))
    assert hub.faults.reached.wait(60)
    server.wait_for(prompt, lambda e: e["type"] == "progress" and 0 < e["data"]["value"] < e["data"]["max"])
    server.interrupt()
    hub.faults.go_on.set()
    assert server.wait(prompt).status == "interrupted"
    (part,) = (models / "diffusion_models").glob(".*.part")
    arrived = part.stat().st_size
    assert 0 < arrived <= 3_000_000 and not (models / XL).exists()
    hub.faults.held = None
    result = server.run(graph(action="download", accept_licence=True))
    assert str(models / XL) in text(result)
    assert (models / XL).read_bytes() == hub.repositories["tencent/HunyuanVideo-Foley"][Path(XL).name]
    assert arrived == 3_000_000 or hub.ranges[-1] == f"bytes={arrived}-"
    offered = server.object_info("FoleyLoadModel")["FoleyLoadModel"]["input"]["required"]["model_name"]
    assert Path(XL).name in offered[1]["options"]


def test_doctor_finds_the_comfyui_that_the_pack_is_in(tmp_path):
    small_weights.write(tmp_path / "models")
    pack = comfy_server.install_pack(tmp_path)
    command = [sys.executable, "-m", "hunyuan_foley_core", "doctor", "--json"]
    done = subprocess.run(command, cwd=pack, capture_output=True, text=True)
    said = json.loads(done.stdout)
    assert done.returncode == 0 and said["machine"]["comfyui"] == str(tmp_path)
    assert {one["name"]: one["missing"] for one in said["sets"]} == {"hunyuanvideo_foley.pth": [], "the small model": []}
