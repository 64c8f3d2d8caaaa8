"""What a step costs beside its arithmetic: Python, ComfyUI and the compiler, which a GPU waits for."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from . import random_file
from .comfy_session import Session
from .memory import in_own_process
from .sizes import XXL

# As many blocks as XXL has, and next to nothing to compute in them.
NARROW = replace(
    XXL, latent_channels=16, hidden_size=64, num_heads=2, mlp_hidden=64, conv_mlp_hidden=64, sync_mlp_hidden=64,
    text_dim=16, visual_dim=16, sync_dim=16,
)
SECONDS, FEW, MANY = 1, 3, 23  # of sound; steps


def measure(comfyui: Path, rounds: int, progress: Callable[[str], None]) -> dict:
    """Milliseconds of a step with guidance, the fastest of the rounds, where compiled blocks compute nothing at all."""
    progress("sampling with blocks that compute nothing")
    with tempfile.TemporaryDirectory() as folder:
        milliseconds = in_own_process(_milliseconds_per_step, comfyui, Path(folder), rounds)
    return {
        "blocks": [NARROW.num_multimodal_blocks, NARROW.num_unimodal_blocks], "rounds": rounds,
        "milliseconds_per_step": milliseconds,
    }


def line(found: dict) -> str:
    return "A step of {blocks[0]} + {blocks[1]} compiled blocks beside their arithmetic, fastest of {rounds}: " \
           "{milliseconds_per_step:.1f} ms".format(**found)


def _milliseconds_per_step(comfyui: Path, folder: Path, rounds: int) -> float:
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    session = Session(comfyui, None, cpu)
    session.load(random_file.make(folder, NARROW, "bf16", cpu), share=1.0)
    model = session.model(compiled=True, backend=_compute_nothing)

    def seconds(steps: int) -> float:
        start = time.perf_counter()
        session.sample(model, SECONDS, 1, steps)
        return time.perf_counter() - start

    seconds(FEW)  # compiles
    # What is done once for a run is in both.
    return min(1e3 * (seconds(MANY) - seconds(FEW)) / (MANY - FEW) for _ in range(rounds))


def _compute_nothing(graph: torch.fx.GraphModule, inputs: list) -> Callable:
    """A backend whose code gives its first results again and again."""
    results = []

    def run(*inputs):
        if not results:
            results.append(graph(*inputs))
        return results[0]

    return run
