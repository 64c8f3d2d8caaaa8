"""Makes workflows/: every graph in both of ComfyUI's formats, pictures of them, and videos to try them on.

Run it when a node or the small model has changed, on a machine with nothing else to do.

    python scripts/make_workflows.py COMFYUI [NAME ...]   (in a Python with ComfyUI's packages and playwright; needs Chromium)
"""

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import comfy_page
import example
import workbench_graphs
import workflow_graphs
from comfy_server import ComfyServer, install_pack
from workflow_sheet import Sheet

WORKFLOWS = ROOT / "workflows"
THUMBNAIL_SIZE = (1600, 900)
GRAPHS = {graph.__name__: graph for graph in (*workflow_graphs.GRAPHS, *workbench_graphs.GRAPHS)}


def main(comfyui: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, comfy_page.browser() as browser:
        base = Path(folder)
        videos = [WORKFLOWS / name for name in example.WRITERS]
        for video in videos:
            example.WRITERS[video.name](video)
        install_pack(base)
        with ComfyServer(comfyui, base) as server:
            for video in videos:
                server.add_input(video)
            schemas = server.object_info()
            for name in names or GRAPHS:
                sheet = GRAPHS[name](Sheet(schemas))
                write(name, sheet)
                take_picture(comfy_page.ComfyPage(browser, server.url), sheet, WORKFLOWS / f"{name}.jpg")


def take_picture(page: comfy_page.ComfyPage, sheet: Sheet, path: Path) -> None:
    """The graph as it is, after a run, so that it shows a result."""
    page.load(sheet.ui(path.stem))
    seeds = page.widgets("seed")  # the page draws others after a run
    if (end := page.run()) != "execution_success":
        raise RuntimeError(f"{path.stem} does not run: {end}")
    page.set_widgets("seed", seeds)
    page.picture(path, THUMBNAIL_SIZE)
    page.close()


def write(name: str, sheet: Sheet) -> None:
    for path, content in ((f"{name}.json", sheet.ui(name)), (f"api/{name}.json", sheet.api())):
        (WORKFLOWS / path).parent.mkdir(parents=True, exist_ok=True)
        (WORKFLOWS / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
