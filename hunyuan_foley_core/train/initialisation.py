"""Random weights to begin with, from a generator so that equal seeds begin alike."""

import math

import torch
from torch import nn

INITIALISATION_STREAM = 2  # beside those in `loop`, so that a beginning draws what neither training nor validation does


def xavier(module: nn.Module, generator: torch.Generator) -> None:
    """Xavier-uniform weights, biases at zero, norms at one."""
    _fill(module, lambda name, weight: nn.init.xavier_uniform_(weight, generator=generator))


def keep_variance(module: nn.Module, generator: torch.Generator, small: tuple[str, ...]) -> None:
    """Normal weights that keep variances level, biases at zero, norms at one.

    Args:
        small: weights with one of these in their names are drawn with a standard deviation of 0.1.
    """
    def draw(name, weight):
        std = 0.1 if any(word in name for word in small) else 1 / math.sqrt(math.prod(weight.shape[1:]))
        nn.init.normal_(weight, std=std, generator=generator)

    _fill(module, draw)


def _fill(module: nn.Module, draw) -> None:
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)
        else:
            draw(name, parameter)
