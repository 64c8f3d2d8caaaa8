"""Layers that compute in the type and on the device of their input, whatever their weights are stored in.

Every network here takes an `ops` namespace and builds its layers from it. `torch.nn` works when weights and input agree;
ComfyUI's `comfy.ops` works inside ComfyUI; this module is the default elsewhere, so that bf16, fp16 and fp8 files can be
used as stored with float32 inputs on a CPU.
"""

import torch
import torch.nn.functional as F


def cast(parameter: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor | None:
    """The parameter in the dtype and on the device of `like` (itself when they agree)."""
    return None if parameter is None else parameter.to(device=like.device, dtype=like.dtype)


class Linear(torch.nn.Linear):
    """A linear layer whose weight may be stored divided by a scale."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("weight_scale", None)  # [], float32

    def forward(self, x):
        # On the input, which is the smaller of the two and is not changed by rounding when x is float32.
        scaled = x if self.weight_scale is None else x * cast(self.weight_scale, x)
        return F.linear(scaled, cast(self.weight, x), cast(self.bias, x))


class Conv1d(torch.nn.Conv1d):
    def forward(self, x):
        return self._conv_forward(x, cast(self.weight, x), cast(self.bias, x))


class Conv2d(torch.nn.Conv2d):
    def forward(self, x):
        return self._conv_forward(x, cast(self.weight, x), cast(self.bias, x))


class Conv3d(torch.nn.Conv3d):
    def forward(self, x):
        return self._conv_forward(x, cast(self.weight, x), cast(self.bias, x))


class ConvTranspose1d(torch.nn.ConvTranspose1d):
    def forward(self, x):
        return F.conv_transpose1d(
            x, cast(self.weight, x), cast(self.bias, x),
            self.stride, self.padding, self.output_padding, self.groups, self.dilation,
        )


class LayerNorm(torch.nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, cast(self.weight, x), cast(self.bias, x), self.eps)


def _rms_norm(x: torch.Tensor, shape: tuple[int], weight: torch.Tensor, eps: float) -> torch.Tensor:
    """What `F.rms_norm` computes, over the last axis; torch has that from 2.4 on."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * cast(weight, wide)).to(x.dtype)


_native_rms_norm = getattr(F, "rms_norm", _rms_norm)


class RMSNorm(torch.nn.Module):
    """`torch.nn.RMSNorm` over the last axis, which is `dim` wide; torch has that from 2.4 on."""

    def __init__(self, dim: int, eps: float, device=None, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = torch.nn.Parameter(torch.ones(dim, device=device, dtype=dtype))

    def forward(self, x):
        return _native_rms_norm(x, self.weight.shape, cast(self.weight, x), self.eps)


# Rows come out as stored; whoever looks them up casts them to the type it works in.
Embedding = torch.nn.Embedding
