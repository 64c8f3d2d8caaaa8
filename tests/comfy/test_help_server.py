"""What a running ComfyUI hands out of the help pages and translations, and what its page makes of them."""

import importlib.util
import json
import urllib.request

import pytest
from help_pages import PAGES
from node_locales import ENGLISH, LANGUAGES, LOCALES

PACK = "foley"
# What a new node shows: its title, its category, the labels of two widgets, the name of an output.
SHOWN = """() => {
    const node = LiteGraph.createNode('FoleySampler')
    return [node.title, node.constructor.category, ...node.widgets.slice(2, 4).map(widget => widget.label),
            LiteGraph.createNode('FoleyEncodeText').outputs[0].localized_name]
}"""
IN_JAPANESE = [
    "Foley \u30b5\u30f3\u30d7\u30e9\u30fc\uff08MMDiT\uff09", "\u30d5\u30a9\u30fc\u30ea\u30fc\uff08Foley\uff09",
    "\u30b9\u30c6\u30c3\u30d7\u6570", "cfg", "\u30dd\u30b8\u30c6\u30a3\u30d6",
]


@pytest.fixture
def language(server):
    """`language("ja")` sets what language the page is shown in."""
    yield lambda name: server.post("/settings", {"Comfy.Locale": name})
    server.post("/settings", {"Comfy.Locale": ENGLISH})


def test_every_page_and_picture_is_served(server):
    for path in PAGES.rglob("*.*"):
        address = f"{server.url}/extensions/{PACK}/docs/{path.relative_to(PAGES).as_posix()}"
        with urllib.request.urlopen(address) as answer:
            assert answer.read() == path.read_bytes(), address


def test_every_translation_is_served(server):
    served = server.get("/i18n")
    for name in (ENGLISH, *LANGUAGES):
        ours = json.loads((LOCALES / name / "nodeDefs.json").read_text(encoding="utf-8"))
        assert {node: served[name]["nodeDefs"].get(node) for node in ours} == ours
    assert f"/extensions/{PACK}/locales.js" in server.get("/extensions")


def test_the_page_shows_nodes_in_the_chosen_language(server, require, language):
    require(importlib.util.find_spec("playwright"), "the Python package playwright")
    import comfy_page

    require(comfy_page.chromium(), "Chromium (on Debian: apt-get install chromium)")
    language("ja")
    with comfy_page.browser() as browser:
        page = comfy_page.ComfyPage(browser, server.url)
        page.open()
        page.settle()
        assert page.page.evaluate(SHOWN) == IN_JAPANESE
