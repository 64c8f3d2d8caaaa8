"""How near a few model calls come to the end of the sampling equation, by solver, shift and number of calls."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from hunyuan_foley_core import checkpoint, media
from hunyuan_foley_core.conditions import DEFAULT_NEGATIVE_PROMPT, encode_video, with_bandwidth_tag
from hunyuan_foley_core.data import write_clip
from hunyuan_foley_core.evaluation.takes import first
from hunyuan_foley_core.pipeline import ModelFiles, load_video_encoders
from hunyuan_foley_core.sampling import linear_sigmas, make_noise
from hunyuan_foley_core.timing import latent_frames

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


@dataclass(frozen=True)
class Clips:
    """Held-out clips as conditions: features [B,T,Dt], [1,T,Dt], [B,V,Dv], [B,S,Ds], and the noise [B,C,L] to start from."""

    text: torch.Tensor
    negative: torch.Tensor
    visual: torch.Tensor
    sync: torch.Tensor
    noise: torch.Tensor


def encode(files: ModelFiles, count: int, channels: int) -> Clips:
    """So many held-out clips in which something hits."""
    clips = [take.clip() for take in first(count, seconds=SECONDS, where=lambda clip: bool(clip.events))]
    towers = load_video_encoders(files, "cpu")
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        seen = []
        for clip in clips:
            write_clip(clip, video)
            seen.append(encode_video(media.stream_frames(video), *towers))
    clap = checkpoint.load_clap(files.clap, files.tokenizer)
    prompts = [with_bandwidth_tag(clip.caption) if clip.tagged else clip.caption for clip in clips]
    text = clap.encode_text([*prompts, DEFAULT_NEGATIVE_PROMPT])
    noise = [make_noise(1, channels, latent_frames(SECONDS), clip.scene.seed) for clip in clips]
    visual, sync = (torch.cat([getattr(one, name) for one in seen]) for name in ("visual", "sync"))
    return Clips(text[:-1], text[-1:], visual, sync, torch.cat(noise))


class Sampling:
    """ComfyUI's own samplers on our MODEL.

    Args:
        comfy: the package, imported (`comfy_inside`).
        patcher: the MODEL.
        keys: the pack's module `nodes.comfy_model`, which names what a CONDITIONING carries.
    """

    def __init__(self, comfy, patcher, clips: Clips, keys):
        self.comfy, self.clips, self.calls = comfy, clips, 0
        self.positive = [[clips.text, {keys.VISUAL_KEY: clips.visual, keys.SYNC_KEY: clips.sync}]]
        self.negative = [[clips.negative, {keys.LENGTHS_KEY: (clips.visual.shape[1], clips.sync.shape[1])}]]
        self.patcher = patcher.clone()
        self.patcher.set_model_unet_function_wrapper(self._count)

    def __call__(self, solver: str, steps: int, shift: float) -> tuple[torch.Tensor, int]:
        """Latents [B,C,L], and how often the model was called."""
        self.calls = 0
        latents = self.comfy.sample.sample(
            self.patcher, self.clips.noise, steps, GUIDANCE, solver, "simple", self.positive, self.negative,
            torch.zeros_like(self.clips.noise), sigmas=linear_sigmas(steps, shift), disable_pbar=True, seed=0,
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
