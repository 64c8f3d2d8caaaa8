"""What an artist does in the page around the graph: read help, choose a language, cancel, download, see what is missing."""

import re
from pathlib import Path
from typing import Any

import page_scripts
from comfy_page import SECONDS, ComfyPage

# A node alone, beside the page's panels, and chosen. By the page's own call: clicks on the canvas count as double ones
# where nodes follow each other this fast.
CHOOSE_NODE = """type => {
    app.graph.clear()
    const node = LiteGraph.createNode(type)
    app.graph.add(node)
    node.pos = [0, 0]
    app.canvas.ds.scale = 1
    app.canvas.ds.offset[0] = 700
    app.canvas.ds.offset[1] = 300
    app.canvas.selectNode(node)
    app.canvas.setDirty(true, true)
}"""
HELP_SHOWN = """headings => {
    const text = document.querySelector('.node-help-content')?.innerText ?? ''
    return text.trimStart().startsWith(headings[0]) && headings.every(heading => text.includes(heading))
}"""
HELP = """() => {
    const help = document.querySelector('.node-help-content')
    return { text: help.innerText, pictures: [...help.querySelectorAll('img')].map(picture => picture.naturalWidth) }
}"""
# What the page writes on the nodes of the graph and says of them: by node type, the title and the names of inputs.
NAMES = """() => Object.fromEntries(app.graph._nodes.map(node => [node.type, {
    title: node.title,
    inputs: Object.fromEntries([
        ...(node.inputs ?? []).map(input => [input.name, input.label ?? input.localized_name ?? input.name]),
        ...(node.widgets ?? []).map(widget => [widget.name, widget.label ?? widget.name]),
    ]),
}]))"""
WATCH_PROGRESS = """() => {
    window.nodesInWork = []
    app.api.addEventListener('progress_state', event => window.nodesInWork = Object.values(event.detail.nodes))
}"""
DOWNLOAD = """async address => {
    const link = Object.assign(document.createElement('a'), { href: address, download: '' })
    document.body.append(link)
    link.click()
    link.remove()
}"""
RESULT = "() => [...document.querySelectorAll('.dom-widget video, .dom-widget audio')]" \
    ".map(player => player.src).filter(address => address.includes('type=output'))"


def read_help(page: ComfyPage, node_type: str, headings: list[str]) -> dict[str, Any]:
    """Chooses a node, presses its information button and waits for the help with these headings.

    Returns:
        `text`, and the widths of `pictures` in it.

    Raises:
        playwright's TimeoutError: there is no such help; the page then shows what it makes of the node's schema itself.
    """
    page.page.evaluate(CHOOSE_NODE, node_type)
    page.page.evaluate(page_scripts.DRAWN)
    if not page.page.evaluate(HELP_SHOWN, headings):  # the button would close it
        page.page.get_by_test_id("info-button").click()
    page.page.wait_for_function(HELP_SHOWN, arg=headings, timeout=60 * SECONDS)
    page.settle()
    return page.page.evaluate(HELP)


def headings(markdown: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)


def switch_language(page: ComfyPage, now: str, wanted: str) -> None:
    """Chooses a language by its own name in the settings, and loads the page anew as a later visit does."""
    page.page.keyboard.press("Control+,")
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_role("combobox").filter(has_text=re.compile(f"^{now}$")).first.click()
    with page.page.expect_response(lambda response: response.request.method == "POST" and "settings" in response.url):
        page.page.get_by_role("option", name=wanted, exact=True).click()
    page.open()
    page.settle()  # until the workflow of the visit before is back


def node_names(page: ComfyPage) -> dict[str, dict[str, Any]]:
    return page.page.evaluate(NAMES)


def start(page: ComfyPage, steps: int) -> None:
    """Presses Run and waits until a node with so many steps has told the page of some of them."""
    page.page.evaluate(WATCH_PROGRESS)
    page.press_run()
    page.page.wait_for_function(
        "steps => window.nodesInWork.some(node => node.max === steps && node.value > 1 && node.value < steps)", arg=steps
    )
    page.page.evaluate(page_scripts.DRAWN)


def cancel(page: ComfyPage) -> str:
    """Presses Cancel and waits for the end, which is returned as by `ComfyPage.run`."""
    page.page.get_by_role("button", name="Cancel current run").first.click()
    return page.end_of_run()


def download_result(page: ComfyPage, folder: Path) -> Path:
    """Saves what the player of the graph's result plays, as its own menu does."""
    page.page.wait_for_function(f"({RESULT})().length > 0")
    with page.page.expect_download() as started:
        page.page.evaluate(DOWNLOAD, page.page.evaluate(RESULT)[0])
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def missing_models(page: ComfyPage) -> str:
    """What the page says of files that are missing: in a dialog, newer ones in a panel that a button opens."""
    details, dialog = page.page.get_by_role("button", name="View details"), page.page.get_by_role("dialog")
    details.or_(dialog).first.wait_for()
    if not details.count():
        return dialog.first.inner_text()
    details.click()
    return page.page.get_by_test_id("error-group-missing-model").inner_text()
