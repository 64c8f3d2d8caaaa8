"""A transformer's file with random weights, written tensor by tensor in the type it is to be kept in."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_foley_core import quantization, tensor_file
from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.whole_files import whole

from .sizes import random_tensors


def make(folder: Path, config: TransformerConfig, precision: str, device: torch.device) -> Path:
    """The file for these sizes in `folder`, written if it is not there yet; `device` draws the numbers."""
    blocks = f"{config.num_multimodal_blocks}+{config.num_unimodal_blocks}"
    path = folder / f"random_{config.hidden_size}_{blocks}_{precision}.safetensors"
    if not path.exists():
        with whole(path) as unfinished:
            write(unfinished, config, precision, device)
    return path


def write(path: Path, config: TransformerConfig, precision: str, device: torch.device) -> None:
    network = FoleyTransformer(config, device="meta")
    entries = {
        key: tensor_file.Entry(tensor.dtype, tuple(tensor.shape))
        for key, tensor in _stored(network.state_dict().items(), precision)
    }
    layers = quantization.scaled_layers(entries)
    tensors = _stored(random_tensors(network, device), precision)
    tensor_file.write(path, entries, quantization.header(layers) if layers else {}, tensors)


def size(config: TransformerConfig, precision: str) -> int:
    """Bytes of all weights."""
    network = FoleyTransformer(config, device="meta")
    return sum(tensor.nbytes for _, tensor in _stored(network.state_dict().items(), precision))


def _stored(tensors, precision: str) -> Iterator[tuple[str, Tensor]]:
    """What `python -m hunyuan_foley_core convert --dtype` makes of float32 weights."""
    for key, tensor in tensors:
        scaled = precision == "fp8_scaled"
        if precision == "bf16" or not quantization.serves(key, tensor.ndim, scaled):
            yield key, _here(tensor.to(torch.bfloat16))
        elif scaled:
            values, scale = quantization.quantize(tensor)
            yield key, _here(values)
            yield quantization.scale_key(key), _here(scale)
        else:
            yield key, _here(tensor.to(torch.float8_e4m3fn))


def _here(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.cpu()
