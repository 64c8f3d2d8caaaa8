"""Sampling written down plainly, for comparison: the plain transformer, its weights moved and cast at each use."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from hunyuan_foley_core import quantization

from . import plain_transformer

GUIDANCE = 4.5


class Weights(Mapping):
    """A state dict whose tensors come out on `device` in `dtype`, wherever and in whatever type they are kept."""

    def __init__(self, tensors: dict[str, Tensor], device: torch.device, dtype: torch.dtype):
        self.tensors, self.device, self.dtype = tensors, device, dtype

    def __getitem__(self, key: str) -> Tensor:
        tensor, scale = self.tensors[key], self.tensors.get(quantization.scale_key(key))
        moved = tensor.to(self.device)
        if scale is not None and key.endswith(".weight"):
            return quantization.dequantize(moved, scale.to(self.device)).to(self.dtype)
        return moved.to(self.dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def step(weights: Weights, num_heads: int, inputs: dict[str, Tensor]) -> Callable[[], Tensor]:
    """One guided step of Euler's method on inputs whose first half is the unconditional one."""

    def once() -> Tensor:
        unconditional, conditional = plain_transformer.velocity(weights, num_heads, **inputs).float().chunk(2)
        velocity = unconditional + GUIDANCE * (conditional - unconditional)
        return inputs["latents"][: len(velocity)].float() - 0.02 * velocity

    return once
