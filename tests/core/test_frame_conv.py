"""Convolution over frames as a matrix product."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hunyuan_foley_core import ops
from hunyuan_foley_core.model.frame_conv import as_one_product, frame_conv, is_product, side_by_side
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
    torch.testing.assert_close(as_one_product(side_by_side(x, taps), weight, bias), expected)


def test_the_weight_is_read_as_it_lies():
    weight = torch.randn(4, 6, 3)
    assert weight.flatten(1).data_ptr() == weight.data_ptr()
    result = as_one_product(torch.randn(2, 9, 6).transpose(1, 2), weight)
    assert result.transpose(1, 2).is_contiguous()


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
