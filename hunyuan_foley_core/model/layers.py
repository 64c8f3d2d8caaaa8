"""The small parts of the transformer. Attribute names are the released checkpoint's keys."""

import math
from typing import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .frame_conv import frame_conv, is_product

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # three [B, H, N, head_dim] -> [B, H, N, head_dim]


def torch_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Softmax attention without mask; q [B, H, N, K], k and v [B, H, M, K] -> [B, H, N, K]."""
    return F.scaled_dot_product_attention(q, k, v)


def modulate(x: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    return torch.addcmul(shift, x, factor)


def gated(x: Tensor, gate: Tensor, update: Tensor) -> Tensor:
    """The residual x + gate * update."""
    return torch.addcmul(x, gate, update)


class TimestepEmbedder(nn.Module):
    """Model time (0..1000, real valued) [B] -> [B, D]."""

    def __init__(self, frequencies: int, hidden_size: int, ops, **factory):
        super().__init__()
        self.half = frequencies // 2
        self.mlp = nn.Sequential(
            ops.Linear(frequencies, hidden_size, **factory), nn.SiLU(), ops.Linear(hidden_size, hidden_size, **factory)
        )

    def forward(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        ramp = torch.arange(self.half, device=timestep.device, dtype=torch.float32)
        angles = timestep.float()[:, None] * torch.exp(-math.log(10_000.0) * ramp / self.half)
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1).to(dtype))


class TextProjection(nn.Module):
    def __init__(self, text_dim: int, hidden_size: int, ops, **factory):
        super().__init__()
        self.linear_1 = ops.Linear(text_dim, hidden_size, **factory)
        self.linear_2 = ops.Linear(hidden_size, hidden_size, **factory)

    def forward(self, text: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(text)))


class SwiGLU(nn.Module):
    def __init__(self, input_dim: int, hidden_size: int, ops, **factory):
        super().__init__()
        self.w1 = ops.Linear(input_dim, hidden_size, bias=False, **factory)
        self.w2 = ops.Linear(hidden_size, hidden_size, bias=False, **factory)
        self.w3 = ops.Linear(input_dim, hidden_size, bias=False, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class ConvMLP(nn.Module):
    """Gated MLP of bias-free convolutions over time; takes and gives [B, L, D]."""

    def __init__(self, dim: int, hidden: int, kernel_size: int, ops, **factory):
        super().__init__()
        conv = dict(kernel_size=kernel_size, padding=kernel_size // 2, bias=False, **factory)
        self.w1 = frame_conv(ops.Conv1d)(dim, hidden, **conv)
        self.w2 = frame_conv(ops.Conv1d)(hidden, dim, **conv)
        self.w3 = frame_conv(ops.Conv1d)(dim, hidden, **conv)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        if not is_product(x):
            x = x.contiguous()  # once for both convolutions
        return self.w2(F.silu(self.w1(x)) * self.w3(x)).transpose(1, 2)


class MLP(nn.Module):
    def __init__(self, dim: int, hidden: int, ops, **factory):
        super().__init__()
        self.fc1 = ops.Linear(dim, hidden, **factory)
        self.fc2 = ops.Linear(hidden, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Modulation(nn.Module):
    """Triples of shift, factor (1 + scale) and gate from the activated conditioning, as `parts` tensors of width D."""

    def __init__(self, dim: int, parts: int, ops, **factory):
        super().__init__()
        self.parts = parts
        self.linear = ops.Linear(dim, parts * dim, **factory)

    def forward(self, activated: Tensor) -> tuple[Tensor, ...]:
        parts = self.linear(activated).chunk(self.parts, dim=-1)
        return tuple(1 + part if index % 3 == 1 else part for index, part in enumerate(parts))


class FinalLayer(nn.Module):
    """Norm and projection to the velocity.

    The released file carries `adaLN_modulation` here, and the released code computes but never applies it; the weights
    must load, the output must not use them.
    """

    def __init__(self, dim: int, latent_channels: int, ops, **factory):
        super().__init__()
        self.norm_final = ops.LayerNorm(dim, eps=1e-6, elementwise_affine=False, **factory)
        self.linear = ops.Linear(dim, latent_channels, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), ops.Linear(dim, 2 * dim, **factory))

    def forward(self, audio: Tensor) -> Tensor:
        return rearrange(self.linear(self.norm_final(audio)), "B L C -> B C L")
