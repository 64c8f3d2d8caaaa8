"""A newcomer's visit to a fresh ComfyUI in a real Chromium: a template is chosen, a run cancelled, another heard, missing files
are named, help is read, the interface speaks Japanese. Screenshots are kept.
"""

import json
from pathlib import Path

import pytest

from hunyuan_foley_core import media
from tests.videos import packets

ROOT = Path(__file__).resolve().parents[2]
PACK, TEMPLATE = "foley", "video_to_foley"
EXAMPLE = ROOT / "workflows" / "foley_example.mp4"
JAPANESE = "\u65e5\u672c\u8a9e"
LONG, SHORT = 1000, 4  # steps: time to cancel, and not to wait


@pytest.fixture(scope="module")
def fresh(comfyui, tmp_path_factory):
    """A server with this pack alone, and nothing downloaded."""
    from comfy_server import ComfyServer, install_pack

    base = tmp_path_factory.mktemp("fresh")
    install_pack(base, PACK)
    with ComfyServer(comfyui, base) as server:
        server.add_input(EXAMPLE)
        yield server


@pytest.fixture(scope="module")
def page(browser, fresh):
    import comfy_page

    page = comfy_page.ComfyPage(browser, fresh.url)
    page.open()
    yield page
    page.close()


@pytest.fixture
def keep(page, screenshots):
    """`keep(name)` takes a screenshot."""
    return lambda name: page.page.screenshot(path=screenshots / f"session_{name}.png")


@pytest.fixture(scope="module")
def our_nodes(fresh) -> dict[str, str]:
    """Display names by node id."""
    return {name: node["display_name"] for name, node in fresh.object_info().items() if name.startswith("Foley")}


def expected_names(language: str) -> dict:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


def help_page(node: str, language: str = "") -> str:
    place = f"{node}/{language}.md" if language else f"{node}.md"
    return (ROOT / "web" / "docs" / place).read_text(encoding="utf-8")


def test_a_template_is_chosen_run_cancelled_run_again_and_its_result_downloaded(page, keep, tmp_path):
    import comfy_menus

    page.choose_template(PACK, TEMPLATE, keep)
    page.settle()
    assert page.dialogs() == [] and page.faults() == []
    keep("2_opened")

    page.set_widget("steps", LONG)
    comfy_menus.start(page, LONG)
    keep("3_progress")
    assert comfy_menus.cancel(page) == "execution_interrupted"
    keep("4_cancelled")

    page.set_widget("steps", SHORT)
    assert page.run() == "execution_success"
    page.settle()
    keep("5_result")
    made = comfy_menus.download_result(page, tmp_path)
    assert packets(made) == packets(EXAMPLE)
    waveform, rate = media.read_audio(str(made))
    assert waveform.shape[1] / rate == pytest.approx(media.probe(str(EXAMPLE)).duration, abs=0.05)
    assert waveform.isfinite().all() and waveform.std() > 1e-3


def test_what_is_missing_is_named_with_its_folder(page, keep):
    import comfy_menus

    workflow = json.loads((ROOT / "workflows" / "foley_released_weights.json").read_text(encoding="utf-8"))
    page.load(workflow)
    said = comfy_menus.missing_models(page)
    keep("6_missing_models")
    links = [link for node in workflow["nodes"] for link in node["properties"].get("models", [])]
    chosen = {value for node in workflow["nodes"] for value in node["widgets_values"]}
    named = [link for link in links if link["name"] in chosen]
    assert len(named) == 5
    assert [link for link in named if link["name"] not in said or link["directory"] not in said] == []
    page.close_dialogs()


def test_help_of_each_node_is_read(page, our_nodes, keep):
    import comfy_menus

    for node, display_name in our_nodes.items():
        headings = comfy_menus.headings(help_page(node))
        shown = comfy_menus.read_help(page, node, headings)
        assert display_name in shown["text"] and len(headings) > 2
        assert shown["pictures"] and all(shown["pictures"])
        if node in ("FoleyEncodeText", "FoleySampler"):
            keep(f"7_help_{node}")


def test_nodes_and_help_are_translated_once_the_interface_is_japanese(page, our_nodes, keep, screenshots):
    import comfy_menus

    comfy_menus.switch_language(page, "English", JAPANESE)
    page.load(json.loads((ROOT / "workflows" / f"{TEMPLATE}.json").read_text(encoding="utf-8")))
    page.settle()
    keep("8_japanese")
    translated, shown = expected_names("ja"), comfy_menus.node_names(page)
    ours = {node: names for node, names in shown.items() if node in our_nodes}
    assert len(ours) > 5
    for node, names in ours.items():
        assert names["title"] == translated[node]["display_name"] != our_nodes[node]
        labels = {name: entry["name"] for name, entry in translated[node]["inputs"].items() if "name" in entry}
        assert {name: names["inputs"].get(name) for name in labels} == labels
    page.full_size_picture(screenshots / "session_9_japanese_full_size.png")
    assert page.unreadable() == []

    for node in ours:
        headings = comfy_menus.headings(help_page(node, "ja"))
        assert translated[node]["display_name"] in comfy_menus.read_help(page, node, headings)["text"]
    keep("10_japanese_help")
