"""ComfyUI's page in a real Chromium: every template opens, shows nothing wrong, can be read, and some run and are heard."""

import copy
import json
from pathlib import Path

import pytest

from tests.videos import make_video

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
HEARD = ["text_to_foley", "foley_after_generator"]  # test_browser_session runs video_to_foley, test_workflows all
PACK = "foley"
SECONDS = 1.2
VIDEOS = ("foley_example.mp4", "foley_scenes_example.mp4")


@pytest.fixture(scope="module")
def address(server) -> str:
    """Where the page is. Videos of the templates' names are there too, upright ones, which take the most room."""
    for name in VIDEOS:
        make_video(server.base / "input" / name, frames=round(SECONDS * 25), rate=25, size=(72, 128))
    return server.url


@pytest.fixture(scope="module")
def one_page(browser, address):
    """A tab for all tests of this module: opening one takes much longer than opening a workflow in it."""
    import comfy_page

    page = comfy_page.ComfyPage(browser, address)
    page.open()
    page.settle()
    page.take_errors_as_usual()
    yield page
    page.close()


@pytest.fixture
def page(one_page):
    """The tab, without what earlier tests left; a test fails at its end where the page wrote an error that is ours."""
    one_page.errors.clear()
    yield one_page
    assert one_page.new_errors() == []


def read(path: str) -> dict:
    return json.loads((WORKFLOWS / path).read_text(encoding="utf-8"))


def served(page, name: str) -> dict:
    """A template as the page gets it from ComfyUI."""
    return page.page.evaluate(
        "async path => (await app.api.fetchApi(path)).json()", f"/workflow_templates/{PACK}/{name}.json"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_shows_nothing_wrong_and_can_be_read(page, screenshots, name):
    page.load(served(page, name))
    page.settle()
    assert page.dialogs() == [] and page.faults() == []
    shipped = without_titles(read(f"api/{name}.json"))
    assert restricted(page.prompt(), shipped) == shipped
    page.full_size_picture(screenshots / f"{name}.png")
    assert page.unreadable() == []


@pytest.mark.parametrize("name", HEARD)
def test_a_template_runs_and_is_heard(page, server, name):
    page.load(served(page, name))
    page.set_widget("steps", 2)
    page.set_widget("seconds", SECONDS)
    assert page.run() == "execution_success"
    page.settle()
    assert page.dialogs() == [] and page.faults() == []
    heard = page.hear(last_file(server))
    assert heard["seconds"] == pytest.approx(SECONDS, abs=0.05) and heard["level"] > 0


def test_what_a_workflow_says_of_itself_is_kept_when_the_page_saves_it(page):
    page.load(read("video_to_foley.json"))
    kept = page.page.evaluate("JSON.parse(JSON.stringify(app.graph.serialize()))")
    shipped = read("video_to_foley.json")
    assert {key: kept["extra"][key] for key in shipped["extra"]} == shipped["extra"]
    assert models_of(kept) == models_of(shipped)


def models_of(workflow: dict) -> dict:
    return {node["id"]: node["properties"]["models"] for node in workflow["nodes"] if "models" in node["properties"]}


def test_the_page_check_sees_what_is_wrong(page):
    broken = copy.deepcopy(read("video_to_foley.json"))
    nodes = {node["type"]: node for node in broken["nodes"]}
    nodes["FoleySampler"]["widgets_values"][4] = "no such sampler"
    nodes["FoleyDACDecode"]["type"] = "NoSuchNode"
    nodes["SaveVideo"]["pos"] = nodes["FoleyMuxAudio"]["pos"]
    page.load(broken)
    faults = "\n".join(page.faults())
    assert "has no no such sampler" in faults
    assert "NoSuchNode" in faults
    assert "lies over SaveVideo" in faults or "SaveVideo 11 lies over" in faults
    page.close_dialogs()


def test_the_reading_check_sees_what_cannot_be_read(page):
    broken = copy.deepcopy(read("video_to_foley.json"))
    notes = [node for node in broken["nodes"] if node["type"] == "MarkdownNote"]
    notes[0]["size"][1] = 90  # the text reaches further
    loader = next(node for node in broken["nodes"] if node["type"] == "FoleyLoadModel")
    loader["widgets_values"][0] = "a_file_with_a_name_that_is_longer_than_the_widget_on_the_node.safetensors"
    prompt = next(node for node in broken["nodes"] if node["type"] == "FoleyEncodeText")
    prompt["widgets_values"][0] = "a hammer hits a block " * 40
    page.load(broken)
    found = "\n".join(page.unreadable())
    assert "in a box of" in found and notes[0]["widgets_values"][0][3:20] in found
    assert "cut: " in found  # of the loader's widget the name is left out first, then the end of the value
    assert "a hammer hits a block" in found


def test_a_run_that_fails_is_seen_to_fail(one_page):
    workflow = read("video_to_foley.json")
    next(node for node in workflow["nodes"] if node["type"] == "LoadVideo")["widgets_values"] = ["missing.mp4"]
    one_page.load(workflow)
    assert one_page.run() != "execution_success"


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
