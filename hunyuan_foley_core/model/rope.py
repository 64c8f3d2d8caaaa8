"""Rotary positions: tables made once per generation, and the rotation of adjacent channel pairs in float32.

Interleaved RoPE (the paper's section on audio-visual alignment) gives audio token i the position 2i and puts the visual
tokens, stretched to the length of the audio, on the odd positions between. Stretching and shrinking by nearest neighbour
only ever copies whole tokens, so the rotated and shrunk result is the original token turned to one odd position: a table.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

THETA = 10_000.0


class Rotation(NamedTuple):
    """Cosines and sines of one sequence of positions, float32 [N, 1, head_dim]: every cosine twice, the sines as
    (-sin, sin), so that a pair is turned in whole rows, without taking even and odd channels apart."""

    cos: Tensor
    sin: Tensor

    def after(self, tokens: int) -> "Rotation":
        """The table without its first positions."""
        return Rotation(self.cos[tokens:], self.sin[tokens:])


class Rotations(NamedTuple):
    """The tables of one generation; `joint` and `cross` run over [visual, audio].

    `visual_order` tells which visual token stands at each visual place of the joint attention; None: as they come.
    """

    joint: Rotation
    cross: Rotation
    audio: Rotation
    visual_order: Tensor | None


def rotation(positions: Tensor, head_dim: int) -> Rotation:
    """Table for `positions` [N] (any number type), computed in float32 on their device."""
    exponents = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float32) / head_dim
    angles = torch.outer(positions.float(), 1.0 / THETA**exponents)[:, None]
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.stack((cos, cos), dim=-1).flatten(-2), torch.stack((-sin, sin), dim=-1).flatten(-2))


def rotate(x: Tensor, table: Rotation) -> Tensor:
    """Turns the pairs (2i, 2i+1) of x [B, N, H, head_dim] by the table; computed in float32, returned in x's dtype."""
    # The tables are float32, and what meets them becomes so by itself: a copy of x in float32 would be one pass more.
    swapped = x.unflatten(-1, (-1, 2)).roll(1, -1).flatten(-2)
    return torch.addcmul(x * table.cos, swapped, table.sin).to(x.dtype)


def nearest_indices(source: int, target: int, device: torch.device | str) -> Tensor:
    """Which of `source` positions nearest-exact interpolation copies to each of `target` positions, int64 [target].

    Asked of `F.interpolate` itself, so that its float32 rounding is ours.
    """
    ramp = torch.arange(source, device=device, dtype=torch.float32)[None, None]
    return F.interpolate(ramp, size=target, mode="nearest-exact")[0, 0].long()


def interleaved_visual(visual_tokens: int, latent_frames: int, device: torch.device | str) -> tuple[Tensor, Tensor | None]:
    """Where interleaving puts the visual tokens.

    Returns:
        positions [V] (odd numbers), and the token each place shows [V], or None when that is the sequence itself: with no
        more visual tokens than latent frames, stretching and shrinking back returns every token to its own place.
    """
    shrunk = nearest_indices(latent_frames, visual_tokens, device)
    if visual_tokens <= latent_frames:
        return 2 * shrunk + 1, None
    return 2 * shrunk + 1, nearest_indices(visual_tokens, latent_frames, device)[shrunk]
