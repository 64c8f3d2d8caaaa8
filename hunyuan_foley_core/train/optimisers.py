"""What moves a phase's parameters: AdamW, beside it Muon where a run asks for it.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) takes the matrices between hidden layers and makes the
singular values of each update equal; everything else, vectors, convolutions, the first layers and the last, is AdamW's.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from . import sharding
from .config import OptimiserConfig
from .errors import TrainingError

MOMENTUM = 0.95


class Optimiser:
    """One phase's optimisers as one.

    Args:
        parameters: what is moved, by name.
        matrices: names among them that Muon may take.

    Raises:
        TrainingError: Muon is asked for where nothing is for it, by several processes, or of a PyTorch without it.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], matrices: Collection[str], config: OptimiserConfig):
        taken = [name for name in parameters if name in matrices] if config.matrix_rate else []
        if config.matrix_rate:
            _check_muon(taken)
        rest = [name for name in parameters if name not in set(taken)]
        decay = config.weight_decay
        self.parameters = parameters
        self.parts = [(config.learning_rate, torch.optim.AdamW(
            [parameters[name] for name in rest], lr=config.learning_rate, betas=tuple(config.betas), weight_decay=decay
        ), rest)]
        if taken:
            self.parts.append((config.matrix_rate, torch.optim.Muon(
                [parameters[name] for name in taken], lr=config.matrix_rate, momentum=MOMENTUM, weight_decay=decay
            ), taken))

    def step(self, share: float) -> None:
        """Moves the parameters at a share of the learning rates, and clears their gradients."""
        for learning_rate, optimiser, _ in self.parts:
            for group in optimiser.param_groups:
                group["lr"] = share * learning_rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> list[dict[str, Any]]:
        """All that going on needs, beside the parameters."""
        return [optimiser.state_dict() for _, optimiser, _ in self.parts]

    def load(self, states: list[dict[str, Any]]) -> None:
        """Takes what `state` gave, with whole tensors where parameters are sharded.

        Raises:
            TrainingError: it is of another set of optimisers.
        """
        if len(states) != len(self.parts):
            raise TrainingError(
                f"The checkpoint holds the state of {len(states)} optimisers.", f"This run has {len(self.parts)}.",
                "Leave optimiser.matrix_rate at zero or above zero as it was, or choose another folder with out=...",
            )
        for state, (_, optimiser, names) in zip(states, self.parts):
            optimiser.load_state_dict(_sharded(state, [self.parameters[name] for name in names]))


def _check_muon(taken: list[str]) -> None:
    problems = (
        (not taken, "has no matrices for it"),
        (sharding.count() > 1, "is shared by several processes, each of which has only rows of a matrix"),
        (
            not hasattr(torch.optim, "Muon"),
            f"runs on PyTorch {torch.__version__}, which has no Muon (2.9 and later have)",
        ),
    )
    problem = next((words for found, words in problems if found), None)
    if problem is not None:
        raise TrainingError(
            "optimiser.matrix_rate asks for Muon.", f"This run {problem}.", "Say optimiser.matrix_rate=0.",
        )


def _sharded(state: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    """An optimiser's state with what has the shape of a parameter sharded as the parameter is."""
    moments = {
        index: {
            name: sharding.part_of(value, parameters[index]) if value.shape == parameters[index].shape else value
            for name, value in held.items()
        }
        for index, held in state["state"].items()
    }
    return {**state, "state": moments}
