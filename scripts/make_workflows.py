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
import editing_graphs
import example
import small_weights
import workbench_graphs
import workflow_graphs
from comfy_server import ComfyServer, install_pack
from workflow_sheet import Sheet

WORKFLOWS = ROOT / "workflows"
THUMBNAIL_SIZE = (1600, 900)
MODULES = (workflow_graphs, workbench_graphs, editing_graphs)
GRAPHS = {graph.__name__: graph for module in MODULES for graph in module.GRAPHS}


def main(comfyui: Path, names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, comfy_page.browser() as browser:
        base = Path(folder)
        videos = [WORKFLOWS / name for name in example.WRITERS]
        for video in videos:
            example.WRITERS[video.name](video)
        install_pack(base)
        small_weights.write(base / "models")  # so that the released files' workflow finds its names
        with ComfyServer(comfyui, base) as server:
            for video in videos:
                server.add_input(video)
            schemas, page = server.object_info(), comfy_page.ComfyPage(browser, server.url)
            for name in names or GRAPHS:
                sheet = GRAPHS[name](Sheet(schemas, GRAPHS[name].about))
                write(name, sheet)
                take_picture(page, sheet, WORKFLOWS / f"{name}.jpg")


def take_picture(page: comfy_page.ComfyPage, sheet: Sheet, path: Path) -> None:
    """The graph as it is, after a run, so that it shows a result."""
    page.load(sheet.ui(path.stem))
    seeds = page.widgets("seed")  # the page draws others after a run
    if (end := page.run()) != "execution_success":
        raise RuntimeError(f"{path.stem} does not run: {end}")
    page.set_widgets("seed", seeds)
    page.picture(path, THUMBNAIL_SIZE)


def write(name: str, sheet: Sheet) -> None:
    for path, content in ((f"{name}.json", sheet.ui(name)), (f"api/{name}.json", sheet.api())):
        (WORKFLOWS / path).parent.mkdir(parents=True, exist_ok=True)
        (WORKFLOWS / path).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
