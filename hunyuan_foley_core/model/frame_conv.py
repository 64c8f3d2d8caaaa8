"""Convolution over the frames of a sound, in the way that suits the device."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def as_one_product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The convolution as one matrix product.

    Each frame's neighbours are laid beside it in the order that the weight has in its file, so that the large one of the
    two operands, the weight, is read as it lies. A convolution of a GPU would turn it to another layout at every call,
    which for sounds of some seconds moves more bytes than the product itself.

    Args:
        x: [B, I, L]; best as the transpose of contiguous frames.
        weight: [O, I, K], K odd; bias: [O].

    Returns:
        [B, O, L], as the transpose of contiguous frames.
    """
    taps = weight.shape[2]
    frames = x.transpose(1, 2)
    if taps > 1:
        frames = F.pad(frames, (0, 0, taps // 2, taps // 2)).unfold(1, taps, 1).flatten(2)
    return F.linear(frames, weight.flatten(1), bias).transpose(1, 2)


def is_product(x: Tensor) -> bool:
    """Whether `x` is convolved as a matrix product.

    On a CPU torch's convolutions are the faster ones (`scripts/bench.py convolutions`), and where gradients are wanted the
    frames laid side by side would have to be kept.
    """
    return x.device.type != "cpu" and not torch.is_grad_enabled()


@lru_cache(maxsize=8)  # ComfyUI makes a class for each model that it loads in a type of its own
def frame_conv(conv: type[nn.Conv1d]) -> type[nn.Conv1d]:
    """`conv`, which may cast and move its weights as it likes, with another way of computing; as long as its input."""

    class FrameConv(conv):
        def _conv_forward(self, x, weight, bias):
            return as_one_product(x, weight, bias) if is_product(x) else super()._conv_forward(x, weight, bias)

    return FrameConv
