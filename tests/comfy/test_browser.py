"""ComfyUI's page in a real Chromium: each template opens, shows nothing wrong, runs, and the result is heard."""

import copy
import importlib.util
import json
import os
from pathlib import Path

import pytest

from tests.videos import make_video

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = ["video_to_foley", "text_to_foley", "foley_after_generator", "foley_stock_ksampler"]
PACK = "foley"
SECONDS = 1.2
ELSEWHERE = "api.comfy.org"  # the page asks there about every pack, and our server does not let it


@pytest.fixture(scope="module")
def browser(require):
    require(importlib.util.find_spec("playwright"), "the Python package playwright")
    import comfy_page

    require(comfy_page.chromium(), "Chromium (on Debian: apt-get install chromium)")
    with comfy_page.browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(server) -> str:
    """Where the page is. A video of the templates' name is there too, an upright one, which takes the most room."""
    make_video(server.base / "input" / "foley_example.mp4", frames=round(SECONDS * 25), rate=25, size=(72, 128))
    return server.url


@pytest.fixture
def page(browser, address):
    import comfy_page

    page = comfy_page.ComfyPage(browser, address)
    yield page
    page.close()


@pytest.fixture(scope="module")
def usual_errors(browser, address) -> set[str]:
    """What the page complains about with nothing of ours on it, the template browser included."""
    import comfy_page

    page = comfy_page.ComfyPage(browser, address)
    page.open()
    page.browse_templates()
    page.settle()
    page.close()
    return set(page.errors)


@pytest.fixture
def screenshot(tmp_path, request):
    """`screenshot(page)` keeps a picture of the page, under $FOLEY_ARTIFACTS if that is set."""
    folder = Path(os.environ.get("FOLEY_ARTIFACTS") or tmp_path)

    def take(page) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        page.page.screenshot(path=folder / f"{request.node.name.replace('[', '_').rstrip(']')}.png")

    return take


def read(path: str) -> dict:
    return json.loads((WORKFLOWS / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_runs_and_is_heard(page, server, usual_errors, screenshot, name):
    page.open_template(PACK, name)
    page.settle()
    assert page.dialogs() == [] and page.faults() == []
    shipped = without_titles(read(f"api/{name}.json"))
    assert restricted(page.prompt(), shipped) == shipped

    page.set_widget("steps", 2)
    page.set_widget("seconds", SECONDS)
    end = page.run()
    page.settle()
    screenshot(page)
    assert end == "execution_success"
    assert page.dialogs() == [] and page.faults() == []
    heard = page.hear(last_file(server))
    assert heard["seconds"] == pytest.approx(SECONDS, abs=0.05) and heard["level"] > 0
    assert [error for error in page.errors if error not in usual_errors and ELSEWHERE not in error] == []


def test_the_template_browser_shows_and_opens_them(page, screenshot):
    page.open()
    page.choose_template(PACK, NAMES[0])
    screenshot(page)
    assert page.dialogs() == [] and page.faults() == []


def test_the_page_check_sees_what_is_wrong(page):
    workflow = read("video_to_foley.json")
    broken = copy.deepcopy(workflow)
    nodes = {node["type"]: node for node in broken["nodes"]}
    nodes["FoleySampler"]["widgets_values"][4] = "no such sampler"
    nodes["FoleyDACDecode"]["type"] = "NoSuchNode"
    nodes["SaveVideo"]["pos"] = nodes["FoleyMuxAudio"]["pos"]
    page.load(broken)
    faults = "\n".join(page.faults())
    assert "has no no such sampler" in faults
    assert "NoSuchNode" in faults
    assert "lies over SaveVideo" in faults or "SaveVideo 11 lies over" in faults


def test_a_run_that_fails_is_seen_to_fail(page, server):
    workflow = read("video_to_foley.json")
    next(node for node in workflow["nodes"] if node["type"] == "LoadVideo")["widgets_values"] = ["missing.mp4"]
    page.load(workflow)
    assert page.run() != "execution_success"


def restricted(converted: dict, shipped: dict) -> dict:
    """The page's conversion without inputs that only it has: players of videos, and what a newer ComfyUI added."""
    def known(number: str, inputs: dict) -> dict:
        return {name: value for name, value in inputs.items() if name in shipped.get(number, {}).get("inputs", {})}

    return {
        number: {**node, "inputs": known(number, node["inputs"])} for number, node in without_titles(converted).items()
    }


def without_titles(graph: dict) -> dict:
    return {number: {"class_type": node["class_type"], "inputs": node["inputs"]} for number, node in graph.items()}


def last_file(server) -> str:
    """The address of what the last prompt saved."""
    latest = list(server.get("/history?max_items=1").values())[-1]
    values = [value for output in latest["outputs"].values() for value in output.values()]
    (entry,) = [entry for value in values for entry in value if isinstance(entry, dict) and "filename" in entry]
    return f"/api/view?filename={entry['filename']}&subfolder={entry['subfolder']}&type={entry['type']}"
