"""Weight norm taken out of a state dict, so that the networks are built of plain convolutions.

Weight normalisation (Salimans and Kingma, arXiv 1602.07868) writes a weight as a direction `weight_v` and a length
`weight_g` per first index. Only training needs the two apart.
"""

from typing import Mapping

import torch

from ..errors import DamagedFileError

_DIRECTION, _LENGTH = ".weight_v", ".weight_g"


def fold_weight_norm(state_dict: Mapping[str, torch.Tensor], *, keep_dtype: bool = False) -> dict[str, torch.Tensor]:
    """The same tensors with every `X.weight_g`, `X.weight_v` pair replaced by `X.weight`; others pass through.

    The product is formed in float32, because half precision loses the norms, and stays float32 unless `keep_dtype`
    asks for the stored type back. The given mapping is not changed.

    Raises:
        CheckpointError: one half of a pair is missing, or the two do not fit together.
    """
    folded = {}
    for key, tensor in state_dict.items():
        if key.endswith(_LENGTH):
            _partner(state_dict, key, _LENGTH, _DIRECTION)
        elif key.endswith(_DIRECTION):
            length = _partner(state_dict, key, _DIRECTION, _LENGTH)
            weight = _fold(key, tensor, length)
            folded[key.removesuffix(_DIRECTION) + ".weight"] = weight.to(tensor.dtype) if keep_dtype else weight
        else:
            folded[key] = tensor
    return folded


def _partner(state_dict: Mapping[str, torch.Tensor], key: str, ending: str, other: str) -> torch.Tensor:
    partner = key.removesuffix(ending) + other
    if partner not in state_dict:
        raise DamagedFileError(
            f"The file has `{key}` but not `{partner}`.",
            "Weight-normed layers are stored as such a pair.",
            "Download the file again; it is incomplete or was converted wrongly.",
        )
    return state_dict[partner]


def _fold(key: str, direction: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
    expected = (*direction.shape[:1], *(1,) * (direction.ndim - 1))
    if direction.ndim == 0 or tuple(length.shape) != expected:
        raise DamagedFileError(
            f"`{key}` has shape {tuple(direction.shape)} but its lengths have shape {tuple(length.shape)}.",
            f"Expected lengths of shape {expected}.",
            "Download the file again; it was damaged or converted wrongly.",
        )
    # Bit-exact with the layers the weights were trained in; v * g / norm(v) moves the decoded sound by 4e-6.
    return torch._weight_norm(direction.float(), length.float(), 0)
