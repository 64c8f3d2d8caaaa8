"""Rows that occur more than once, so that what follows from them alone is computed once.

Without a picture every segment has the same eight sync tokens, and the variations of a batch have the same conditions.
"""

from collections.abc import Hashable, Iterable

import torch
from torch import Tensor


def first_and_order(rows: Iterable[Hashable]) -> tuple[list[int], list[int]]:
    """Where each different row stands first, and which of the different ones each row is."""
    first, order, numbers = [], [], {}
    for place, row in enumerate(rows):
        if row not in numbers:
            numbers[row] = len(first)
            first.append(place)
        order.append(numbers[row])
    return first, order


def different_tokens(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Compares the tokens [B, S, C] of each sample with one another, bit for bit.

    Where gradients flow or the compiler traces, all count as different: neither can wait for the comparison.

    Returns:
        Where the different ones stand first, as indices into [B * S], and which of them is at each place [B, S].
    """
    samples, count = tokens.shape[:2]
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        first = torch.arange(samples * count, device=tokens.device)
        return first, first.view(samples, count)
    rows = ((sample, row.tobytes()) for sample, rows in enumerate(_bytes(tokens)) for row in rows)
    first, order = (torch.tensor(numbers, device=tokens.device) for numbers in first_and_order(rows))
    return first, order.view(samples, count)


def different_samples(*features: Tensor) -> tuple[list[int], list[int]]:
    """Which samples differ in any of the features, each [B, N, C]: as `first_and_order`."""
    return first_and_order(tuple(row.tobytes() for row in rows) for rows in zip(*map(_bytes, features)))


def _bytes(x: Tensor):
    return x.contiguous().view(torch.uint8).cpu().numpy()
