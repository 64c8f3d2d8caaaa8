"""Rewriting a checkpoint as safetensors: nothing to unpickle, quick to map, one file for every tool."""

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from .checkpoint import identify, read_state_dict
from .errors import CheckpointError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def convert(source: str | Path, target: str | Path, dtype: torch.dtype | None = None) -> None:
    """Writes the tensors of `source` to `target` as safetensors, under a temporary name first.

    Args:
        dtype: for the floating-point tensors; None: as stored.

    Raises:
        CheckpointError: the source cannot be read or holds no network of ours, or the target is no `.safetensors` name.
    """
    source, target = Path(source), Path(target)
    if target.suffix.lower() != ".safetensors":
        raise CheckpointError(f"The target is {target.name}.", "Expected a name ending in .safetensors.")
    tensors, config = read_state_dict(source)
    component = identify(tensors)
    if component is None:
        raise CheckpointError(
            f"{source.name} holds none of the five networks of HunyuanVideo-Foley.",
            "Expected the transformer, the DAC-VAE, Synchformer, SigLIP2 or CLAP.",
        )
    metadata = {"format": "pt", "source": source.name, "model": component.title, "config": json.dumps(config)}
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        save_file({key: _stored(value, dtype) for key, value in tensors.items()}, temporary, metadata)
        os.replace(temporary, target)
    except OSError as error:
        raise CheckpointError(f"{target} cannot be written: {error.strerror}.", "Expected a folder with room.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _stored(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    # A clone, because safetensors refuses tensors that share memory.
    return tensor.to(dtype=dtype if tensor.is_floating_point() else None).contiguous().clone()
