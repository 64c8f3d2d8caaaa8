"""ATST-Frame (arXiv 2306.04186; github.com/Audio-WestlakeU/audiossl): what happens when, learned without labels.

Attribute names are the keys of the published checkpoints. Letters: T tokens of 40 ms, P samples of a patch of the mel
spectrogram.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from ... import media
from ... import ops as core_ops
from ...checkpoint import Component, build, read_state_dict
from ...config import ENCODER_HEAD_DIM, Shapes
from ...encoders.layers import Mlp, attend
from ...errors import CheckpointError
from ...ops import cast
from ...timing import SAMPLE_RATE
from ..spectra import triangles

PREFIX = "model.teacher.encoder."  # of the part that is used; the student beside it was still learning
RATE, WINDOW, HOP, BANDS, LOWEST, HIGHEST = 16_000, 1024, 160, 64, 60.0, 7800.0
RANGE_DB = 80.0  # below the loudest of a clip; what is quieter counts as that
LEAST_DB, MOST_DB = -79.6482, 50.6842  # of the spectrograms it was trained on; they become -1 and 1
PATCH_FRAMES = 4
EPS = 1e-6
# The published files keep measured losses as NumPy scalars beside the weights; these are all that reading one needs.
# NumPy 2 moved the function that makes them.
_SCALAR = np.float64(0).__reduce__()[0]
HARMLESS = [
    (_SCALAR, "numpy.core.multiarray.scalar"), (_SCALAR, "numpy._core.multiarray.scalar"),
    np.dtype, type(np.dtype(np.float64)),
]


@dataclass(frozen=True)
class ATSTConfig:
    """ATST-Frame's sizes (base: 768 wide, 12 heads, 12 blocks; small: 384 wide, 6 heads).

    Attributes:
        max_tokens: the longest sequence there are positions for.
    """

    hidden_size: int
    num_heads: int
    num_blocks: int
    mlp_hidden: int
    max_tokens: int

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> "ATSTConfig":
        shapes = Shapes(tensors, TITLE)
        width, patch = shapes["patch_embed.patch_embed.weight"]
        if patch != BANDS * PATCH_FRAMES or width % ENCODER_HEAD_DIM:
            raise CheckpointError(
                f"The {TITLE} takes patches of {patch} values and is {width} wide.",
                f"Expected patches of {BANDS} x {PATCH_FRAMES} and a multiple of {ENCODER_HEAD_DIM}.",
                "Use ATST-Frame base or small, not ATST-Clip.",
            )
        return cls(
            hidden_size=width,
            num_heads=width // ENCODER_HEAD_DIM,
            num_blocks=shapes.count("blocks."),
            mlp_hidden=shapes["blocks.0.mlp.fc1.weight"][0],
            max_tokens=shapes["pos_embed"][1] - 1,
        )


class ATSTFrame(nn.Module):
    """The transformer over patches of a mel spectrogram."""

    def __init__(self, config: ATSTConfig, ops=core_ops, dtype=None, device=None):
        super().__init__()
        factory = dict(dtype=dtype, device=device)
        self.config = config
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + config.max_tokens, config.hidden_size, **factory))
        self.patch_embed = _PatchEmbedding(config.hidden_size, ops, **factory)
        self.blocks = nn.ModuleList(_Block(config, ops, **factory) for _ in range(config.num_blocks))
        self.norm_frame = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [B,T,P], T at most `max_tokens`, to frames [B,T,D]."""
        tokens = self.patch_embed(patches)
        # Position 0 was kept for a summary token that this model does not have.
        tokens = tokens + cast(self.pos_embed, tokens)[:, 1 : 1 + tokens.shape[1]]
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm_frame(tokens)


class _PatchEmbedding(nn.Module):
    def __init__(self, width: int, ops, **factory):
        super().__init__()
        self.patch_embed = ops.Linear(BANDS * PATCH_FRAMES, width, **factory)

    def forward(self, patches: Tensor) -> Tensor:
        return self.patch_embed(patches)


class _Block(nn.Module):
    def __init__(self, config: ATSTConfig, ops, **factory):
        super().__init__()
        self.norm1 = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)
        self.attn = _SelfAttention(config, ops, **factory)
        self.norm2 = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)
        self.mlp = Mlp(config.hidden_size, config.mlp_hidden, "none", ops, **factory)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class _SelfAttention(nn.Module):
    def __init__(self, config: ATSTConfig, ops, **factory):
        super().__init__()
        self.num_heads = config.num_heads
        self.qkv = ops.Linear(config.hidden_size, 3 * config.hidden_size, bias=False, **factory)
        self.proj = ops.Linear(config.hidden_size, config.hidden_size, **factory)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.proj(attend(*self.qkv(tokens).chunk(3, dim=-1), self.num_heads))


TITLE = "ATST-Frame encoder"
# What hid patches from the student while it learned is of no use here.
ATST = Component(TITLE, "norm_frame.weight", "", ATSTConfig.from_state_dict, ATSTFrame, ("mask_embed",))


def load_atst(path: str | Path, device: str = "cpu") -> ATSTFrame:
    """The encoder of a published checkpoint, or of a file with its tensors alone.

    Raises:
        CheckpointError: no such file, one that cannot be read without running code, or another network.
    """
    with torch.serialization.safe_globals(HARMLESS):
        tensors, _ = read_state_dict(path)
    encoder = {key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)}
    return build(ATST, encoder or tensors, {}, name=Path(path).name, device=device)


class ATSTTeacher:
    """Features of a published ATST-Frame, 25 a second."""

    def __init__(self, path: str | Path, device: str = "cpu"):
        self.encoder = load_atst(path, device)
        self.size = self.encoder.config.hidden_size
        self.name = f"atst-{self.size}-{_digest(self.encoder)}"
        self.device = device

    @torch.no_grad()
    def features(self, waveform: Tensor) -> Tensor:
        """[B,1,N] at 48 kHz to [B,F,size]; F = N / 1920, rounded down.

        More than `max_tokens` frames are taken in pieces of equal length, which do not see each other.
        """
        patches = mel_patches(media.resample(waveform, SAMPLE_RATE, RATE)).to(self.device)
        pieces = max(1, math.ceil(patches.shape[1] / self.encoder.config.max_tokens))
        return torch.cat([self.encoder(piece) for piece in patches.tensor_split(pieces, dim=1)], dim=1).float().cpu()


def mel_patches(waveform: Tensor) -> Tensor:
    """Patches [B,T,P] of the scaled mel spectrogram of waveforms [B,1,N] at 16 kHz."""
    levels = mel_decibels(waveform)
    levels = (levels - LEAST_DB) / (MOST_DB - LEAST_DB) * 2 - 1
    whole = levels.shape[-1] // PATCH_FRAMES * PATCH_FRAMES
    return rearrange(levels[..., :whole], "B M (T f) -> B T (M f)", f=PATCH_FRAMES)


def mel_decibels(waveform: Tensor) -> Tensor:
    """dB [B,M,frames] of the power in mel bands, frames of 10 ms, at most 80 dB below each clip's loudest."""
    samples = rearrange(waveform, "B 1 N -> B N")
    hann = torch.hann_window(WINDOW, dtype=samples.dtype, device=samples.device)
    spectra = torch.stft(samples, WINDOW, HOP, window=hann, center=True, pad_mode="reflect", return_complex=True)
    power = triangles(BANDS, WINDOW, RATE, LOWEST, HIGHEST).to(samples) @ spectra.abs().square()
    levels = 10 * power.clamp(min=1e-10).log10()
    return torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - RANGE_DB)


def _digest(encoder: nn.Module) -> str:
    """A short name for these very weights."""
    digest = hashlib.sha256()
    for tensor in encoder.state_dict().values():
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:12]
