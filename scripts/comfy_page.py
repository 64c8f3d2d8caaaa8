"""ComfyUI's page in a real, headless Chromium: opens workflows, looks at them, runs them, takes their picture."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Locator, Page, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Root may not use the sandbox; the rest keeps Chromium from asking hosts of its own for things.
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]
WINDOW = {"width": 1600, "height": 900}
SECONDS = 1000  # Playwright counts in milliseconds
START = 60 * SECONDS
VIEW_MARGIN = 30

# Only the canvas and what nodes lay over it stay visible.
BARE_GRAPH = """
body * { visibility: hidden !important }
#graph-canvas, .dom-widget, .dom-widget * { visibility: visible !important }
video::-webkit-media-controls { display: none !important }
"""
FIT_VIEW = """([width, height, margin]) => {
    const boxes = [...app.graph._nodes, ...app.graph._groups].map(item => item.boundingRect ?? item.bounding)
    const left = Math.min(...boxes.map(b => b[0])), top = Math.min(...boxes.map(b => b[1]))
    const right = Math.max(...boxes.map(b => b[0] + b[2])), bottom = Math.max(...boxes.map(b => b[1] + b[3]))
    const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top))
    app.canvas.ds.scale = scale
    app.canvas.ds.offset[0] = width / scale / 2 - (left + right) / 2
    app.canvas.ds.offset[1] = height / scale / 2 - (top + bottom) / 2
    app.canvas.show_info = false
    app.canvas.setDirty(true, true)
}"""
# What an artist would see at a glance: red nodes, values a list does not have, loose links, nodes over nodes.
FAULTS = """() => {
    const faults = [], nodes = app.graph._nodes
    const name = node => `${node.type} ${node.id}`
    for (const node of nodes) {
        if (!(node.type in LiteGraph.registered_node_types)) faults.push(`${name(node)} is missing`)
        if (node.has_errors) faults.push(`${name(node)} is marked red`)
        for (const widget of node.widgets ?? []) {
            const values = widget.type === 'combo' ? widget.options?.values : null
            if (Array.isArray(values) && !values.includes(widget.value))
                faults.push(`${name(node)}: ${widget.name} has no ${widget.value}`)
        }
        // A player takes its height from the video, once that is there.
        const plays = node.widgets?.some(widget => widget.name === 'video-preview')
        if (!plays && node.size[1] < node.computeSize()[1] - 1)
            faults.push(`${name(node)} is too low for its contents`)
    }
    const links = app.graph.links instanceof Map ? [...app.graph.links.values()] : Object.values(app.graph.links)
    for (const link of links) {
        const from = app.graph.getNodeById(link.origin_id), to = app.graph.getNodeById(link.target_id)
        const output = from?.outputs?.[link.origin_slot], input = to?.inputs?.[link.target_slot]
        if (!output?.links?.includes(link.id) || input?.link !== link.id) faults.push(`link ${link.id} is loose`)
        else if (!LiteGraph.isValidConnection(output.type, input.type)) faults.push(`link ${link.id} does not fit`)
    }
    const box = node => ({ left: node.pos[0], top: node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT,
                           right: node.pos[0] + node.size[0], bottom: node.pos[1] + node.size[1] })
    nodes.forEach((a, i) => nodes.slice(i + 1).forEach(b => {
        const [p, q] = [box(a), box(b)]
        if (p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom)
            faults.push(`${name(a)} lies over ${name(b)}`)
    }))
    return faults
}"""
SEEK_VIDEOS = """async second => {
    const happened = (video, event) => new Promise(resolve => video.addEventListener(event, resolve, { once: true }))
    for (const video of document.querySelectorAll('video')) {
        if (video.readyState < 1) await happened(video, 'loadedmetadata')
        video.currentTime = second
        await happened(video, 'seeked')
    }
}"""
HEAR = """async address => {
    const data = await (await fetch(address)).arrayBuffer()
    const sound = await new OfflineAudioContext(1, 1, 48000).decodeAudioData(data)
    const power = sound.getChannelData(0).reduce((sum, value) => sum + value * value, 0)
    return { seconds: sound.duration, channels: sound.numberOfChannels, level: Math.sqrt(power / sound.length) }
}"""


def chromium() -> str | None:
    """Path of the installed Chromium, or None."""
    return next((path for path in map(shutil.which, CHROMIUM_NAMES) if path), None)


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
        try:
            yield running
        finally:
            running.close()


class ComfyPage:
    """One tab with a fresh profile.

    Attributes:
        errors: what the page has written to its console as errors, or thrown: the first line and where it came from.
    """

    def __init__(self, browser: Browser, url: str):
        self.url, self.errors = url, []
        self.page: Page = browser.new_page(viewport=WINDOW)
        self.page.on("console", lambda entry: entry.type == "error" and self._note(entry.text, entry.location["url"]))
        self.page.on("pageerror", lambda error: self._note(str(error)))
        # Otherwise a new user's page begins with the template browser.
        self.page.request.post(f"{url}/settings", data={"Comfy.TutorialCompleted": True})

    def open(self, query: str = "") -> None:
        """Goes to ComfyUI's page and waits until it can be used."""
        self.page.goto(f"{self.url}/{query}")
        self.page.wait_for_function("window.app?.graph && window.app.canvas && window.LiteGraph", timeout=START)

    def open_template(self, pack: str, name: str) -> None:
        """Opens a template by its address, as a shared link to it would."""
        self.open(f"?template={name}&source={pack}")
        self._await_nodes()

    def browse_templates(self) -> Locator:
        """Opens the template browser and returns its dialog."""
        self.page.get_by_role("button", name="Templates").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.wait_for(timeout=START)
        return dialog

    def choose_template(self, pack: str, name: str) -> None:
        """Opens a template with the mouse: template browser, pack, then the template's card with its picture."""
        dialog = self.browse_templates()
        dialog.get_by_text(pack, exact=True).click()
        card = dialog.get_by_text(name, exact=True)
        card.wait_for(timeout=START)
        card.scroll_into_view_if_needed()  # pictures further down are fetched when they come into view
        self.page.wait_for_function(
            "name => [...document.images].some(image => image.alt === name && image.naturalWidth)",
            arg=name, timeout=START,
        )
        card.click()
        self._await_nodes()

    def load(self, workflow: dict[str, Any]) -> None:
        """Opens a workflow as if its file had been dropped onto the page."""
        self.open()
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self._await_nodes()

    def settle(self) -> None:
        """Waits until the page has fetched what it wants and drawn it."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(1 * SECONDS)

    def faults(self) -> list[str]:
        """What is wrong with the graph as the page shows it, one line each."""
        return self.page.evaluate(FAULTS)

    def dialogs(self) -> list[str]:
        """Texts of the dialogs in the way."""
        return [dialog.inner_text() for dialog in self.page.get_by_role("dialog").all() if dialog.is_visible()]

    def prompt(self) -> dict[str, Any]:
        """The graph in API format, converted by the page."""
        return self.page.evaluate("async () => JSON.parse(JSON.stringify((await app.graphToPrompt()).output))")

    def set_widget(self, name: str, value: Any) -> None:
        """Changes the widgets of that name on all nodes."""
        self.page.evaluate(
            "([name, value]) => { for (const node of app.graph._nodes) for (const widget of node.widgets ?? [])"
            " if (widget.name === name) { widget.value = value; widget.callback?.(value) } }",
            [name, value],
        )

    def widgets(self, name: str) -> list[Any]:
        """The values of the widgets of that name, node by node."""
        return self.page.evaluate(
            "name => app.graph._nodes.flatMap(node => node.widgets ?? []).filter(widget => widget.name === name)"
            ".map(widget => widget.value)",
            name,
        )

    def set_widgets(self, name: str, values: list[Any]) -> None:
        """Puts back what `widgets` gave."""
        self.page.evaluate(
            "([name, values]) => app.graph._nodes.flatMap(node => node.widgets ?? [])"
            ".filter(widget => widget.name === name).forEach((widget, index) => { widget.value = values[index] })",
            [name, values],
        )

    def run(self, timeout: float = 300.0) -> str:
        """Presses Run and waits for the end.

        Returns:
            `execution_success`, `execution_error` or `execution_interrupted`; of a refused graph, its errors as JSON.
        """
        self.page.evaluate(
            "() => { window.ended = null; for (const end of ['success', 'error', 'interrupted'])"
            " app.api.addEventListener(`execution_${end}`, event => window.ended = event.type, { once: true }) }"
        )
        self.page.get_by_role("button", name="Run", exact=True).first.click()
        # A refused graph never starts: the page lists the errors by node instead.
        self.page.wait_for_function(
            "window.ended || Object.keys(app.lastNodeErrors ?? {}).length", timeout=timeout * SECONDS
        )
        return self.page.evaluate("window.ended ?? JSON.stringify(app.lastNodeErrors)")

    def hear(self, address: str) -> dict[str, float]:
        """What Chromium hears in a file of the server: seconds, channels and the level (rms)."""
        return self.page.evaluate(HEAR, address)

    def picture(self, path: Path, size: tuple[int, int], quality: int = 72, at_second: float = 1.0) -> None:
        """A JPEG of the whole graph without the page around it; videos show what is seen `at_second`."""
        self.page.set_viewport_size(dict(zip(("width", "height"), size)))
        self.page.add_style_tag(content=BARE_GRAPH)
        self.page.evaluate(FIT_VIEW, [*size, VIEW_MARGIN])
        self.page.evaluate(SEEK_VIDEOS, at_second)
        self.page.wait_for_timeout(1 * SECONDS)
        self.page.screenshot(path=path, type="jpeg", quality=quality)

    def close(self) -> None:
        self.page.close()

    def _await_nodes(self) -> None:
        self.page.wait_for_function("app.graph._nodes.length > 0", timeout=START)

    def _note(self, text: str, address: str = "") -> None:
        self.errors.append(f"{text.splitlines()[0]} {address}".strip())
