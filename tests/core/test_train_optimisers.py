"""AdamW alone, and Muon beside it for the matrices that it is given."""

import pytest
import torch
from torch import nn

from hunyuan_foley_core.train import sharding
from hunyuan_foley_core.train.config import OptimiserConfig
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.optimisers import Optimiser

ADAM = OptimiserConfig(1e-2, 0.0, (0.8, 0.99), 0.0, 1.0)
BOTH = OptimiserConfig(1e-2, 0.05, (0.8, 0.99), 0.0, 1.0)
SHAPES = {"matrix": (8, 8), "embedding": (8, 8), "bias": (8,)}


def parameters():
    generator = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def gradients(values, number=0):
    generator = torch.Generator().manual_seed(1 + number)
    for value in values.values():
        value.grad = torch.randn(value.shape, generator=generator)


def moved(config, matrices, share=1.0):
    values = parameters()
    gradients(values)
    before = {name: value.detach().clone() for name, value in values.items()}
    Optimiser(values, matrices, config).step(share)
    assert all(value.grad is None for value in values.values())
    return {name: before[name] - value.detach() for name, value in values.items()}


def test_all_is_adamws_without_a_rate_for_matrices():
    steps = moved(ADAM, {"matrix"}, share=0.5)
    assert all(step.abs() == pytest.approx(0.5e-2, rel=1e-4) for step in (steps[name].flatten() for name in SHAPES))


def test_muon_makes_the_singular_values_of_an_update_equal_and_leaves_the_rest_to_adamw():
    steps = moved(BOTH, {"matrix"}, share=0.5)
    values = torch.linalg.svdvals(steps["matrix"])
    # Its few Newton-Schulz steps bring them near 1, between 0.7 and 1.2 or so, whatever they were.
    assert 0.6 * 0.025 < values.min() and values.max() < 1.3 * 0.025
    for name in ("embedding", "bias"):
        assert steps[name].abs().flatten() == pytest.approx(0.5e-2, rel=1e-4)


def test_going_on_from_a_state_is_as_if_nothing_had_happened():
    whole, first = parameters(), parameters()
    through, stopped = Optimiser(whole, {"matrix"}, BOTH), Optimiser(first, {"matrix"}, BOTH)
    for number in range(4):
        if number == 2:
            state = stopped.state()
            stopped = Optimiser(first, {"matrix"}, BOTH)
            stopped.load(state)
        for values, optimiser in ((whole, through), (first, stopped)):
            gradients(values, number)
            optimiser.step(1.0)
    assert all(torch.equal(whole[name], first[name]) for name in SHAPES)
    with pytest.raises(TrainingError, match="state of 2 optimisers.*matrix_rate"):
        Optimiser(parameters(), {"matrix"}, ADAM).load(stopped.state())


def test_muon_where_it_cannot_work_is_refused(monkeypatch):
    with pytest.raises(TrainingError, match="no matrices for it.*matrix_rate=0"):
        Optimiser(parameters(), frozenset(), BOTH)
    with monkeypatch.context() as patched:
        patched.setattr(sharding, "count", lambda: 2)
        with pytest.raises(TrainingError, match="shared by several processes"):
            Optimiser(parameters(), {"matrix"}, BOTH)
        Optimiser(parameters(), {"matrix"}, ADAM)
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(TrainingError, match="2.9 and later"):
        Optimiser(parameters(), {"matrix"}, BOTH)
