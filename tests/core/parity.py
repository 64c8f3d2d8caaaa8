"""The reference fixtures: tiny random weights, inputs and expected outputs, all float32."""

from pathlib import Path

import torch
from safetensors.torch import load_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
PARITY = FIXTURES / "parity"
MANIFESTS = FIXTURES / "manifests"


def weights(name: str) -> Path:
    return PARITY / f"{name}.weights.safetensors"


def cases(name: str) -> dict[str, torch.Tensor]:
    return load_file(PARITY / f"{name}.cases.safetensors")


def relative_error(result: torch.Tensor, reference: torch.Tensor) -> float:
    return float((result.double() - reference.double()).norm() / reference.double().norm())
