"""How far the joint of a loop stands out from the rest of the sound, with the small model.

    python scripts/benchmarks/loops.py

Of each sound three things are measured at all places: the step from one sample to the next, the spectral flux, and how
the level changes within 100 ms. Printed is the joint's mean rank among all places, 0 to 1; 0.5 is a place like any other.
"""

import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.append(str(Path(__file__).resolve().parents[2]))

from hunyuan_foley_core import small_model
from hunyuan_foley_core.networks import Networks
from hunyuan_foley_core.pipeline import Settings, find_model_files
from hunyuan_foley_core.seamless_loop import decode_loop, margin_of
from hunyuan_foley_core.timing import LATENT_HOP, LATENT_RATE

PROMPTS = ("a metal ball rolls on the floor", "hammering on a glass block")
SEEDS, STEPS, FRAMES, FADE_FRAMES = range(2), 8, 100, 25
WINDOW, HOP, LEVEL_WINDOW, LEVEL_HOP = 1024, 256, 4800, 480


def main() -> None:
    networks = Networks(find_model_files(small_model.FOLDER), Settings(steps=STEPS))
    ranks = {}
    for prompt in PROMPTS:
        for seed in SEEDS:
            for name, sound in sounds(networks, prompt, seed).items():
                ranks.setdefault(name, []).append(joint_ranks(sound[0, 0]))
    sys.stdout.write("| | step between samples | spectral flux | change of level |\n|---|---|---|---|\n")
    for name, found in ranks.items():
        figures = " | ".join(f"{value:.2f}" for value in torch.tensor(found).mean(dim=0).tolist())
        sys.stdout.write(f"| {name} | {figures} |\n")


def sounds(networks: Networks, prompt: str, seed: int) -> dict[str, torch.Tensor]:
    def latents(frames: int, margin: int = 0):
        return networks.make(prompt, "noisy, harsh", None, frames, seed=seed, margin=margin)

    return {
        "a plain sound, repeated": networks.decode(latents(FRAMES)),
        "its last 0.5 s crossfaded into the first": crossfaded(networks.decode(latents(FRAMES + FADE_FRAMES))),
        "a seamless loop": decode_loop(latents(FRAMES, margin_of(FRAMES)), networks.decode, FRAMES / LATENT_RATE),
    }


def crossfaded(sound: torch.Tensor) -> torch.Tensor:
    """A longer sound as a loop: what is too much of its end over its beginning, at equal power."""
    length = FADE_FRAMES * LATENT_HOP
    angle = (torch.arange(length) + 0.5) / length * math.pi / 2
    beginning = sound[..., :length] * angle.sin() + sound[..., -length:] * angle.cos()
    return torch.cat((beginning, sound[..., length:-length]), dim=-1)


def joint_ranks(sound: torch.Tensor) -> tuple[float, float, float]:
    """Of a sound [N] that is repeated: ranks of step, flux and change of level at the joint."""
    joint = len(sound) // 2
    turned = sound.roll(joint)
    steps = (turned[1:] - turned[:-1]).abs()
    spectrum = torch.stft(turned, WINDOW, HOP, window=torch.hann_window(WINDOW), center=False, return_complex=True)
    log = (spectrum.abs() + 1e-3).log()
    flux = F.avg_pool1d((log[:, 1:] - log[:, :-1]).abs().mean(dim=0)[None], 5, 1)[0]
    level = 10 * (F.avg_pool1d(turned.square()[None], LEVEL_WINDOW, LEVEL_HOP)[0] + 1e-8).log10()
    change = (level[LEVEL_WINDOW // LEVEL_HOP :] - level[: -LEVEL_WINDOW // LEVEL_HOP]).abs()
    return (
        rank(steps, 1, 1, joint, WINDOW), rank(flux, HOP, (WINDOW + 5 * HOP) // 2, joint, 2 * WINDOW),
        rank(change, LEVEL_HOP, LEVEL_WINDOW, joint, LEVEL_WINDOW),
    )


def rank(values: torch.Tensor, hop: int, first: int, joint: int, near: int) -> float:
    """Share of the places further than `near` samples from the joint whose value is below that at the joint."""
    distance = (torch.arange(len(values)) * hop + first - joint).abs()
    return float((values[distance > near] < values[distance.argmin()]).float().mean())


if __name__ == "__main__":
    main()
