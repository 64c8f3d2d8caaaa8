"""Layers of our own, and what they do where torch is too old to have them."""

import importlib.util

import pytest
import torch

from hunyuan_foley_core import ops


@pytest.fixture
def older(monkeypatch):
    """The module as torch before 2.4 imports it."""
    monkeypatch.delattr(torch.nn, "RMSNorm", raising=False)
    monkeypatch.delattr(torch.nn.functional, "rms_norm", raising=False)
    spec = importlib.util.spec_from_file_location("older_ops", ops.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
@pytest.mark.parametrize("dtype, tolerance", [
    (torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2 ** -8), (torch.float16, 2 ** -11),
])
def test_rms_norm_has_the_same_numbers_without_torch_2_4(older, dtype, tolerance, eps):
    generator = torch.Generator().manual_seed(0)
    x = (torch.randn(2, 5, 3, 128, generator=generator) * 3).to(dtype)
    norm, plain = ops.RMSNorm(128, eps), older.RMSNorm(128, eps)
    norm.weight.data.normal_(generator=generator)
    plain.load_state_dict(norm.state_dict())
    assert older._native_rms_norm is older._rms_norm
    assert plain(x).dtype == norm(x).dtype == dtype
    assert (plain(x) - norm(x)).abs().max() <= tolerance * norm(x).abs().max()
