"""ComfyUI's page in a real, headless Chromium: opens workflows, looks at them, runs them, takes their picture."""

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import page_scripts
from playwright.sync_api import Browser, Locator, Page, sync_playwright

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Root may not use the sandbox; the rest keeps Chromium from asking hosts of its own for things.
CHROMIUM_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
]
WINDOW = {"width": 1600, "height": 900}
SECONDS = 1000  # Playwright counts in milliseconds
START = 120 * SECONDS  # of a browser on a machine that has other things to do
VIEW_MARGIN = 30
ELSEWHERE = "api.comfy.org"  # the page asks there about every pack, and the server does not let it
LEAST_TEXT = 10.0  # pixels; ComfyUI's own notes and text boxes have this size


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
        usual_errors: those of them that are none of ours.
    """

    def __init__(self, browser: Browser, url: str):
        self.url, self.errors, self.usual_errors = url, [], set()
        self.page: Page = browser.new_page(viewport=WINDOW)
        self.page.set_default_timeout(START)
        self.page.add_init_script(page_scripts.WATCH_TEXTS)
        self.page.on("console", lambda entry: entry.type == "error" and self._note(entry.text, entry.location["url"]))
        self.page.on("pageerror", lambda error: self._note(str(error)))
        # Otherwise a new user's page begins with the template browser.
        self.page.request.post(f"{url}/settings", data={"Comfy.TutorialCompleted": True})

    def open(self, query: str = "") -> None:
        """Goes to ComfyUI's page and waits until it can be used."""
        self.page.goto(f"{self.url}/{query}")
        self.page.wait_for_function("window.app?.graph && window.app.canvas && window.LiteGraph")

    def open_template(self, pack: str, name: str) -> None:
        """Opens a template by its address, as a shared link to it would."""
        self.open(f"?template={name}&source={pack}")
        self._await_nodes()

    def browse_templates(self) -> Locator:
        """Opens the template browser and returns its dialog."""
        self.page.get_by_role("button", name="Templates").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.wait_for()
        return dialog

    def choose_template(self, pack: str, name: str, keep: Callable[[str], Any] = lambda name: None) -> None:
        """Opens a template with the mouse: template browser, pack, then the template's card with its picture.

        Args:
            keep: called when the cards are there, to take a picture of them.
        """
        dialog = self.browse_templates()
        dialog.get_by_text(pack, exact=True).click()
        card = dialog.get_by_text(name, exact=True)
        card.wait_for()
        card.scroll_into_view_if_needed()  # pictures further down are fetched when they come into view
        self.page.wait_for_function(
            "name => [...document.images].some(image => image.alt === name && image.naturalWidth)",
            arg=name,
        )
        keep("1_templates")
        card.click()
        self._await_nodes()

    def load(self, workflow: dict[str, Any]) -> None:
        """Opens a workflow as if its file had been dropped onto the page, in place of what is there."""
        if self.page.url == "about:blank":
            self.open()
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self._await_nodes()

    def settle(self) -> None:
        """Waits until the page has fetched what it wants and drawn it."""
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_function(page_scripts.MEDIA_SHOWN)
        self.page.evaluate(page_scripts.DRAWN)

    def faults(self) -> list[str]:
        """What is wrong with the graph as the page shows it, one line each."""
        return self.page.evaluate(page_scripts.FAULTS)

    def unreadable(self) -> list[str]:
        """Texts that are cut or too small at 100 %, one line each; the window grows to hold the whole graph."""
        self._show_at_full_size()
        return self.page.evaluate(page_scripts.UNREADABLE, LEAST_TEXT)

    def dialogs(self) -> list[str]:
        """Texts of the dialogs in the way."""
        return [dialog.inner_text() for dialog in self.page.get_by_role("dialog").all() if dialog.is_visible()]

    def close_dialogs(self) -> None:
        """Of those that Escape closes: all but the template browser."""
        for dialog in reversed(self.page.get_by_role("dialog").all()):
            self.page.keyboard.press("Escape")
            dialog.wait_for(state="hidden")

    def take_errors_as_usual(self) -> None:
        """Of a page that shows nothing of ours: what it complains about is its own affair."""
        self.usual_errors |= set(self.errors)

    def new_errors(self) -> list[str]:
        """What the page has complained about since, about its own unreachable services apart."""
        return [error for error in self.errors if error not in self.usual_errors and ELSEWHERE not in error]

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
        self.press_run()
        return self.end_of_run(timeout)

    def press_run(self) -> None:
        self.page.evaluate(
            "() => { window.ended = null; for (const end of ['success', 'error', 'interrupted'])"
            " app.api.addEventListener(`execution_${end}`, event => window.ended = event.type, { once: true }) }"
        )
        self.page.get_by_role("button", name="Run", exact=True).first.click()

    def end_of_run(self, timeout: float = 300.0) -> str:
        # A refused graph never starts: the page lists the errors by node instead.
        self.page.wait_for_function(
            "window.ended || Object.keys(app.lastNodeErrors ?? {}).length", timeout=timeout * SECONDS
        )
        return self.page.evaluate("window.ended ?? JSON.stringify(app.lastNodeErrors)")

    def hear(self, address: str) -> dict[str, float]:
        """What Chromium hears in a file of the server: seconds, channels and the level (rms)."""
        return self.page.evaluate(page_scripts.HEAR, address)

    def picture(self, path: Path, size: tuple[int, int], quality: int = 72, at_second: float = 1.0) -> None:
        """A JPEG of the whole graph without the page around it; videos show what is seen `at_second`."""
        _, _, width, height = extent = self.page.evaluate(page_scripts.EXTENT)
        scale = min((size[0] - 2 * VIEW_MARGIN) / width, (size[1] - 2 * VIEW_MARGIN) / height)
        with self._bare():
            self._show(size, scale, extent)
            self.page.evaluate(page_scripts.SEEK_VIDEOS, at_second)
            self.page.evaluate(page_scripts.DRAWN)
            self.page.screenshot(path=path, type="jpeg", quality=quality)
        self.page.set_viewport_size(WINDOW)

    def full_size_picture(self, path: Path) -> None:
        """A PNG of the whole graph at 100 %."""
        with self._bare():
            self._show_at_full_size()
            self.page.screenshot(path=path)
        self.page.set_viewport_size(WINDOW)

    def close(self) -> None:
        self.page.close()

    def _show_at_full_size(self) -> None:
        extent = self.page.evaluate(page_scripts.EXTENT)
        self._show([math.ceil(length) + 2 * VIEW_MARGIN for length in extent[2:]], 1.0, extent)

    def _show(self, size: Sequence[int], scale: float, extent: list[float]) -> None:
        width, height = size
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.wait_for_function(page_scripts.CANVAS_FILLS_WINDOW)
        self.page.evaluate(page_scripts.CENTRE_VIEW, [scale, extent])
        self.page.evaluate(page_scripts.DRAWN)

    @contextmanager
    def _bare(self) -> Iterator[None]:
        style = self.page.add_style_tag(content=page_scripts.BARE_GRAPH)
        try:
            yield
        finally:
            style.evaluate("style => style.remove()")

    def _await_nodes(self) -> None:
        self.page.wait_for_function("app.graph._nodes.length > 0")

    def _note(self, text: str, address: str = "") -> None:
        self.errors.append(f"{text.splitlines()[0]} {address}".strip())
