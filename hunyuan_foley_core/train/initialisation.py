"""Random weights to begin with, from a generator so that equal seeds begin alike."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from .errors import TrainingError
from .loop import seeded

INITIALISATION_STREAM = 2  # beside those in `loop`, so that a beginning draws what neither training nor validation does


def starting_network(
    config: Any, title: str, network: Callable[[Any], nn.Module],
    initialise: Callable[[nn.Module, torch.Generator], None], load: Callable[..., nn.Module],
) -> nn.Module:
    """The network to train, in float32: of the file to start from, or new.

    Args:
        config: of a run, with the fields `start`, `model`, `device` and `loop`.
        title: what the network is called in messages.
        network, initialise: make a new one of the sizes `config.model`.
        load: one of `checkpoint`'s.

    Raises:
        CheckpointError: the file is missing or damaged.
        TrainingError: it holds one of other sizes.
    """
    if not config.start:
        new = network(config.model)
        initialise(new, seeded(config.loop.seed, INITIALISATION_STREAM))
        return new.to(config.device)
    held = load(config.start, dtype=torch.float32, device=config.device)
    if held.config != config.model:
        raise TrainingError(
            f"{config.start} holds a {title} of {asdict(held.config)}.",
            f"The section model asks for {asdict(config.model)}.", "Make the two agree.",
        )
    return held.train().requires_grad_(True)


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
