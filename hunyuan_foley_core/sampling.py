"""Flow-matching sampling of clips of any length: linear-shift sigmas, Euler steps in float32, classifier-free guidance.

The model predicts velocity = noise - data at model time 1000 * sigma (arXiv 2508.16930 and its released settings).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .errors import InputError
from .seamless_loop import around, folded
from .model import FoleyTransformer
from .start import FROM_NOISE, Start
from .velocity import ClipVelocity, Texts
from .windows import Window, plan_windows

TIMESTEP_SCALE = 1000.0

# (high, low): guidance while low < sigma <= high, after "Applying Guidance in a Limited Interval" (arXiv 2404.07724).
GuidanceInterval = tuple[float, float]
WHOLE_INTERVAL: GuidanceInterval = (1.0, 0.0)

# A noise level such as 0.7 reaches us as 0.70000005 or 0.69999999, depending on who computed it.
_SIGMA_ROUNDING = 1e-5
_SEEDS = (-(2**63), 2**64 - 1)  # a negative one is taken for its two's complement

StepCallback = Callable[[int, int, Tensor], None]  # (steps done, steps in all, latents); raising cancels the run


def linear_sigmas(steps: int, shift: float = 1.0, strength: float = 1.0) -> Tensor:
    """Noise levels from 1 to 0, float32 [steps + 1]; shift > 1 spends more steps at high noise.

    A strength below 1 takes the last `steps` of as many more steps as make them that share of the way; 0 leaves [0].

    Raises:
        InputError: fewer than one step, or a shift that is not positive.
    """
    if steps < 1:
        raise InputError(f"The number of steps is {steps}.", "Expected at least 1.", "50 is the published setting.")
    if not shift > 0:
        raise InputError(f"The shift is {shift}.", "Expected a number above 0.", "1.0 is the published setting.")
    if strength == 0:
        return torch.zeros(1)
    sigmas = torch.linspace(1, 0, int(steps / strength) + 1)
    return (shift * sigmas / (1 + (shift - 1) * sigmas))[-(steps + 1) :]


def make_noise(batch: int, channels: int, latent_frames: int, seed: int, first_take: int = 0) -> Tensor:
    """Gaussian noise [B, C, L], float32, drawn on the CPU so that a seed means the same everywhere.

    Takes are drawn one after the other: those of a batch of one from `first_take` on are, to the bit, those of any
    batch that holds that take. InputError for a seed out of range.
    """
    generator = torch.Generator("cpu").manual_seed(check_seed(seed))
    takes = [torch.randn(1, channels, latent_frames, generator=generator) for _ in range(first_take + batch)]
    return torch.cat(takes[first_take:])


def check_seed(seed: int) -> int:
    """The seed itself; InputError unless torch's generator takes it."""
    if not _SEEDS[0] <= seed <= _SEEDS[1]:
        raise InputError(f"The seed is {seed}.", "Expected a whole number from 0 to 2^64 - 1.", "Choose a smaller one.")
    return seed


def check_interval(interval: GuidanceInterval) -> None:
    """Raises InputError unless 1 >= high >= low >= 0; equal ones mean no guidance at all."""
    high, low = interval
    if not 1 >= high >= low >= 0:
        raise InputError(
            f"The guidance interval goes from sigma {high} down to {low}.",
            "Expected two noise levels between 1 and 0, the higher one first.", "1 and 0 guide every step.",
        )


def is_guided(sigma: float, interval: GuidanceInterval) -> bool:
    """Whether the step at the noise level `sigma` (1 noise .. 0 sound) lies in the interval: low < sigma <= high."""
    high, low = interval
    return low + _SIGMA_ROUNDING < sigma <= high + _SIGMA_ROUNDING


def euler_step(latents: Tensor, velocity: Tensor, sigma: Tensor, next_sigma: Tensor) -> Tensor:
    return latents + velocity.float() * (next_sigma - sigma)


@torch.inference_mode()
def sample(
    transformer: FoleyTransformer,
    noise: Tensor,
    *,
    text: Texts,
    negative_text: Texts | None,
    visual: Tensor | None = None,
    sync: Tensor | None = None,
    steps: int = 50,
    guidance_scale: float = 4.5,
    shift: float = 1.0,
    guidance_interval: GuidanceInterval = WHOLE_INTERVAL,
    start: Start = FROM_NOISE,
    windows: Sequence[Window] | None = None,
    margin: int = 0,
    callback: StepCallback | None = None,
) -> Tensor:
    """Turns noise into latents.

    Args:
        transformer: the model; what does not depend on the step is computed once, before the loop.
        noise: [B, C, L]; its dtype and device are those the model computes in, the solver's state is float32.
        text, negative_text: [1 or B, T, text_dim], or several by time, all encoded together. Without `negative_text`,
            or with a `guidance_scale` of at most 1, there is no unconditional half.
        visual, sync: [1 or B, V, visual_dim] and [1 or B, S, sync_dim]; None: the learned empty features, at the length
            the latents imply.
        steps, shift: see `linear_sigmas`.
        guidance_interval: (high, low) noise levels; guidance while low < sigma <= high. Other steps compute the
            conditional half alone, at half the work.
        start: latents to start from, how far from them to go, and which of them to keep.
        windows: from `plan_windows`, with the cuts that the features were made with; None: those that the
            weights want for a clip without cuts.
        margin: for a seamless loop, latent frames of its own other end that the model is shown before and after the clip;
            features and windows are then those of L + 2 margin frames.
        callback: called after each step with (steps done, steps in all, latents); an exception it raises ends the run.

    Returns:
        Latents [B, C, L], float32.

    Raises:
        InputError: shapes that do not fit each other or the model, steps, shift or interval out of
            range, or a result that is not finite.
    """
    check_interval(guidance_interval)
    start = start.on(noise)
    sigmas = linear_sigmas(steps, shift, start.strength)
    guidance = [
        negative_text is not None and guidance_scale > 1 and is_guided(sigma, guidance_interval)
        for sigma in sigmas[:-1].tolist()
    ]
    velocity_of = ClipVelocity(
        transformer, around(noise, margin), text, negative_text if any(guidance) else None, visual, sync,
        plan_windows(noise.shape[-1] + 2 * margin, transformer.windows) if windows is None else windows, guidance_scale,
    )
    sigmas, pure_noise = sigmas.to(noise.device), noise.float()
    latents = start.at(pure_noise, sigmas[0])
    for step, (sigma, next_sigma) in enumerate(zip(sigmas[:-1], sigmas[1:])):
        seen = start.seen(latents, pure_noise, sigma)
        velocity = folded(velocity_of(around(seen, margin), sigma * TIMESTEP_SCALE, guidance[step]), margin)
        latents = euler_step(latents, start.towards(latents, seen, velocity, sigma), sigma, next_sigma)
        if callback is not None:
            callback(step + 1, steps, latents)
    check_finite(latents)
    return latents


def check_finite(latents: Tensor) -> None:
    """Raises InputError when latents hold NaN or infinity."""
    bad = latents.numel() - int(latents.isfinite().sum())
    if bad:
        share = math.ceil(100 * bad / latents.numel())
        raise InputError(
            f"The sampled latents hold {bad} values that are not finite ({share} % of them).",
            "Expected finite numbers.",
            "Use bf16 or fp32 in place of fp16, lower the guidance scale, or check the weights and any LoRA for damage.",
        )
