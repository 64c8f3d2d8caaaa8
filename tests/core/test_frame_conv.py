"""Convolution over frames as a matrix product."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hunyuan_foley_core import ops
from hunyuan_foley_core.model.frame_conv import as_one_product, frame_conv, is_product
from tests.pretend_device import NAME, pretend_device


@pytest.mark.parametrize("frames", [1, 2, 50])
@pytest.mark.parametrize("taps", [1, 3, 5])
@pytest.mark.parametrize("with_bias", [False, True])
def test_it_is_the_convolution(frames, taps, with_bias):
    x, weight = torch.randn(2, 6, frames, dtype=torch.float64), torch.randn(4, 6, taps, dtype=torch.float64)
    bias = torch.randn(4, dtype=torch.float64) if with_bias else None
    expected = F.conv1d(x, weight, bias, padding=taps // 2)
    for given in (x, x.transpose(1, 2).contiguous().transpose(1, 2)):
        torch.testing.assert_close(as_one_product(given, weight, bias), expected)


class Copies(TorchDispatchMode):
    """Counts results of a size that lie elsewhere than in the tensor of that size."""

    def __init__(self, tensor):
        super().__init__()
        self.tensor, self.count = tensor, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        place = self.tensor.untyped_storage().data_ptr()
        self.count += result.numel() == self.tensor.numel() and result.untyped_storage().data_ptr() != place
        return result


def test_the_weight_is_read_as_it_lies():
    weight, x = torch.randn(7, 6, 3), torch.randn(2, 8, 6).transpose(1, 2)
    with Copies(weight) as copies:
        result = as_one_product(x, weight)
    assert copies.count == 0 and result.transpose(1, 2).is_contiguous()
    with Copies(weight) as copies:
        as_one_product(x, weight.transpose(0, 1).contiguous().transpose(0, 1))  # one that cannot be
    assert copies.count > 0


@pytest.mark.parametrize("layers", [nn, ops])
def test_a_layer_convolves_on_a_cpu_and_multiplies_on_a_gpu_without_gradients(layers):
    layer = frame_conv(layers.Conv1d)(6, 4, kernel_size=3, padding=1)
    assert isinstance(layer, layers.Conv1d) and set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(2, 6, 9)
    expected = layer(x)
    with pretend_device():
        there, its_x = layer.to(NAME), x.to(NAME)
        with torch.no_grad():
            assert is_product(its_x) and not is_product(x)
            torch.testing.assert_close(there(its_x).cpu(), expected.detach())
        assert not is_product(its_x) and there(its_x).requires_grad
