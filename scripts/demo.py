"""`run.py demo`, in the Python of the chosen ComfyUI: a video in, the same video with sound and a picture of it out."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import example
import picture
from comfy_server import ComfyServer, Graph, PromptResult, ServerError, install_pack
from console import Step, say, step

from hunyuan_foley_core import media, small_model
from hunyuan_foley_core.data import scoring
from hunyuan_foley_core.errors import FoleyError

WORKFLOW = ROOT / "workflows" / "api" / "video_to_foley.json"
EXAMPLE = ROOT / "workflows" / "foley_example.mp4"
BASE = ROOT / ".env" / "demo"  # ComfyUI's base directory
TOLERANCE = 0.06  # seconds by which a sound may miss what is seen


def main(settings: dict[str, Any]) -> int:
    try:
        if settings["video"]:
            say(small_model.LIMITS)
        video, prompt = _choose_video(settings)
        result, base = _run_workflow(settings, video, prompt)
        if result.status != "success":
            say(f"\nThe workflow failed on {(result.error or {}).get('node_type')}: {result.message or result.status}")
            return 1
        (made,) = result.files(base)
        out = Path(settings["out"] or ROOT / "output" / f"{video.stem}.mp4").resolve()
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, out)  # another file system, perhaps
        _report(out, [] if settings["video"] else [event.time for event in example.clip().events])
    except (FoleyError, ServerError, OSError) as error:
        say(f"\n{error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _choose_video(settings: dict[str, Any]) -> tuple[Path, str | None]:
    """The video and its prompt; None leaves the workflow's own."""
    if settings["video"]:
        video = Path(settings["video"]).resolve()
        media.probe(str(video))
        return video, settings["prompt"]
    return EXAMPLE, settings["prompt"] or example.clip().caption


def _run_workflow(settings: dict[str, Any], video: Path, prompt: str | None) -> tuple[PromptResult, Path]:
    BASE.mkdir(parents=True, exist_ok=True)
    install_pack(BASE)
    cpu = settings["cpu"] or not (torch.cuda.is_available() or torch.backends.mps.is_available())
    server = ComfyServer(Path(settings["comfyui"]), BASE, cpu=cpu, threads=1)
    try:
        with step(f"Starting ComfyUI on the {'CPU' if cpu else 'GPU'} (log: {server.log})"):
            server.start()
        changes = {
            "LoadVideo": {"file": server.add_input(video)},
            "FoleyEncodeText": {"prompt": prompt, "negative_prompt": settings["negative"]},
            "FoleySampler": {"seed": settings["seed"], "steps": settings["steps"]},
        }
        graph = _with_inputs(json.loads(WORKFLOW.read_text(encoding="utf-8")), changes)
        with step("Running the workflow") as now:
            return server.wait(server.queue(graph), timeout=24 * 3600.0, on_event=_progress(graph, now)), BASE
    finally:
        server.stop()


def _with_inputs(graph: Graph, changes: dict[str, dict[str, Any]]) -> Graph:
    """The graph with inputs of some node classes replaced, those that are not None."""
    def inputs(node):
        new = changes.get(node["class_type"], {})
        return {**node["inputs"], **{name: value for name, value in new.items() if value is not None}}

    return {number: {**node, "inputs": inputs(node)} for number, node in graph.items()}


def _progress(graph: Graph, now: Step):
    """Shows which node is at work and how far it is."""
    def show(event: dict[str, Any]) -> None:
        data = event["data"]
        node = graph.get(str(data.get("node")), {}).get("class_type", "")
        if event["type"] == "progress":
            now.update(f"{node} {data['value']:.0f} of {data['max']:.0f}")
        elif event["type"] == "executing" and node:
            now.update(node)

    return show


def _report(out: Path, hits: list[float]) -> None:
    """Draws the result and says where it is and what can be measured on it.

    Args:
        hits: seconds at which something hits in the picture, where that is known.
    """
    with step("Drawing the waveform and spectrogram"):
        info = media.probe(str(out))
        waveform, sample_rate = media.read_audio(str(out))
        mono = waveform.mean(dim=0).numpy()
        seconds = info.duration or len(mono) / sample_rate
        level = f"{sample_rate / 1000:g} kHz, peak {np.abs(mono).max():.2f}, rms {np.sqrt(np.mean(mono**2)):.3f}"
        drawing = out.with_suffix(".png")
        title = f"{out.name}   {seconds:.2f} s   {level}" + ("   (yellow: hits in the picture)" if hits else "")
        picture.draw(drawing, _pictures(out, seconds), mono, sample_rate, seconds, title, hits)
    say(f"\nVideo with sound:  {out}  ({info.width} x {info.height}, {seconds:.2f} s, {level})")
    say(f"Picture of it:     {drawing}")
    if hits:
        found = scoring.onsets(mono)
        score = scoring.compare(found, hits, TOLERANCE)
        say(f"In time:           {score.matched} of the {score.true} hits in the picture have the start of a sound within "
            f"{TOLERANCE * 1000:.0f} ms; the sound has {score.found} starts in all")


def _pictures(out: Path, seconds: float) -> Iterator[tuple[float, np.ndarray]]:
    for frame in media.stream_frames(str(out), max_seconds=seconds):
        if frame.visual_repeats:
            yield frame.time, frame.image.permute(1, 2, 0).numpy()


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
