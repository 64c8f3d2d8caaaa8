"""How many model calls each solver and shift needs: errors against 400 steps of heun, on the small model.

    python scripts/solvers.py COMFYUI [--clips 6] [--out docs/solvers]    (in a Python with ComfyUI's packages)

Writes the table and the chart of docs/solvers.md: OUT.json, OUT.png and, on the screen, the Markdown.
"""

import argparse
import importlib
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import chart
import comfy_inside
from console import say, step

sys.path.append(str(Path(__file__).parent.parent))

DRAWN_SOLVERS, DRAWN_SHIFTS = ("euler", "dpmpp_2m"), (1.0, 3.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comfyui", type=Path, help="folder that holds ComfyUI's main.py")
    parser.add_argument("--clips", type=int, default=6, help="held-out clips to sample together (6)")
    parser.add_argument("--out", type=Path, help="write OUT.json and OUT.png")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as base, comfy_inside.imported(arguments.comfyui, Path(base)) as comfy:
        points = run(comfy, arguments.clips)
    for line in tables(points):
        say(line)
    if arguments.out:
        write(points, arguments.out)


def run(comfy, count: int) -> list:
    """Every point measured, in ComfyUI with the small model in float32."""
    import torch
    from benchmarks import solvers

    from hunyuan_foley_core import checkpoint, small_model
    from hunyuan_foley_core.evaluation import machine
    from hunyuan_foley_core.evaluation.exam import questions
    from hunyuan_foley_core.pipeline import find_model_files
    from hunyuan_foley_core.train.spectra import log_mel, spectrum

    files = find_model_files(small_model.FOLDER)
    keys = importlib.import_module(f"{comfy_inside.PACK}.nodes.comfy_model")
    loading = importlib.import_module(f"{comfy_inside.PACK}.nodes.load_model")
    vae = checkpoint.load_vae(files.vae)
    say("{cpu}, torch {torch}".format(**machine.describe(torch.device("cpu"), torch.get_num_threads())))
    with torch.inference_mode(), step("Measuring solvers") as current:
        patcher = loading.load_foley_model(str(files.transformer))
        asked = questions(files, count, solvers.SECONDS)
        sampling = solvers.Sampling(comfy, patcher, asked, asked.noise(patcher.model.latent_format.latent_channels), keys)
        return list(solvers.measure(sampling, lambda x: log_mel(spectrum(vae.decode(x), 2048).abs()), current.update))


def tables(points: list) -> list[str]:
    from benchmarks import solvers

    lines = [line for shift in solvers.SHIFTS for line in ["", *solvers.table(points, shift)]]
    lines += ["", "| calls at most | nearest | shift | error | spectra |", "|---|---|---|---|---|"]
    for calls in solvers.CALLS:
        best = solvers.nearest(points, calls)
        lines.append(f"| {calls} | {best.solver} | {best.shift:g} | {best.error:.3f} | {best.mel_db:.1f} dB |")
    return lines


def write(points: list, out: Path) -> None:
    """The points as JSON, and some of them as a chart."""
    out.with_suffix(".json").write_text(json.dumps([asdict(point) for point in points], indent=1) + "\n", encoding="utf-8")
    draw(points, out.with_suffix(".png"))


def draw(points: list, path: Path) -> None:
    """A first-order and a second-order solver at three shifts; the others are in the table."""
    lines = {}
    for point in points:
        if point.solver in DRAWN_SOLVERS and point.shift in DRAWN_SHIFTS:
            lines.setdefault(f"{point.solver}, shift {point.shift:g}", []).append((point.calls, point.error))
    chart.draw(
        path, lines, "How near the latents are to the end of the sampling equation", "model calls",
        "relative L2 against 400 steps of heun",
    )


if __name__ == "__main__":
    main()
