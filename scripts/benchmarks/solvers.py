"""How near a few model calls come to the end of the sampling equation, by solver, shift and number of calls."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from hunyuan_foley_core.evaluation.exam import Questions
from hunyuan_foley_core.sampling import linear_sigmas

SOLVERS = ("euler", "heun", "dpmpp_2m", "res_multistep", "uni_pc", "er_sde")
SHIFTS = (1.0, 1.5, 2.0, 3.0, 5.0)
CALLS = (6, 10, 16, 25, 50)
REFERENCE = "heun", 400, 3.0  # solver, steps and shift
GUIDANCE, SECONDS = 4.5, 2.0

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Point:
    """A way to sample, and how far its latents are from the reference's.

    Attributes:
        calls: of the model, counted; one call computes both halves of guidance.
        error: relative L2 over all clips.
        mel_db: mean absolute difference of the decoded sounds' mel spectra, in dB.
    """

    solver: str
    shift: float
    steps: int
    calls: int
    error: float
    mel_db: float


class Sampling:
    """ComfyUI's own samplers on our MODEL.

    Args:
        comfy: the package, imported (`comfy_inside`).
        patcher: the MODEL.
        noise: [B,C,L], what sampling begins with.
        keys: the pack's module `nodes.comfy_model`, which names what a CONDITIONING carries.
    """

    def __init__(self, comfy, patcher, asked: Questions, noise: torch.Tensor, keys):
        self.comfy, self.noise, self.calls = comfy, noise, 0
        self.positive = [[asked.text, {keys.VISUAL_KEY: asked.visual, keys.SYNC_KEY: asked.sync}]]
        self.negative = [[asked.negative_text, {keys.LENGTHS_KEY: (asked.visual.shape[1], asked.sync.shape[1])}]]
        self.patcher = patcher.clone()
        self.patcher.set_model_unet_function_wrapper(self._count)

    def __call__(self, solver: str, steps: int, shift: float) -> tuple[torch.Tensor, int]:
        """Latents [B,C,L], and how often the model was called."""
        self.calls = 0
        latents = self.comfy.sample.sample(
            self.patcher, self.noise, steps, GUIDANCE, solver, "simple", self.positive, self.negative,
            torch.zeros_like(self.noise), sigmas=linear_sigmas(steps, shift), disable_pbar=True, seed=0,
        )
        return latents, self.calls

    def _count(self, apply_model, options):
        self.calls += 1
        return apply_model(options["input"], options["timestep"], **options["c"])


def measure(sampling: Sampling, hear: Callable[[torch.Tensor], torch.Tensor], tell: Tell) -> Iterator[Point]:
    """Every solver at every shift and number of calls, against `REFERENCE`.

    Args:
        hear: latents to log10 mel spectra.
    """
    tell("the reference")
    true, _ = sampling(*REFERENCE)
    sound = hear(true)
    for solver in SOLVERS:
        for shift in SHIFTS:
            for wanted in CALLS:
                tell(f"{solver}, shift {shift:g}, {wanted} calls")
                made, calls = sampling(solver, max(1, wanted // 2 if solver == "heun" else wanted), shift)
                steps = wanted // 2 if solver == "heun" else wanted
                error = ((made - true).norm() / true.norm()).item()
                yield Point(solver, shift, steps, calls, error, 20 * (hear(made) - sound).abs().mean().item())


def nearest(points: list[Point], calls: int) -> Point:
    """The run with the least error of those with at most so many calls."""
    return min((point for point in points if point.calls <= calls), key=lambda point: point.error)


def table(points: list[Point], shift: float) -> list[str]:
    """Errors at one shift in Markdown, a row for each solver and a column for each number of calls."""
    rows = [f"| shift {shift:g} | " + " | ".join(f"{calls} calls" for calls in CALLS) + " |", "|---" * (len(CALLS) + 1) + "|"]
    for solver in SOLVERS:
        found = [point for point in points if (point.solver, point.shift) == (solver, shift)]
        rows.append(f"| {solver} | " + " | ".join(f"{p.error:.3f} ({p.mel_db:.1f} dB)" for p in found) + " |")
    return rows
