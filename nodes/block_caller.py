"""How the blocks of a Foley model are called: replaced where a node asks for it, and compiled one at a time.

TorchCompileModel compiles whatever runs inside the diffusion model. The functions around the blocks are kept out, so that
the compiler meets one block at a time: all blocks of a kind then share one short compilation, and nodes that replace or
skip blocks do not break it.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# Compiled is what the function calls, not the function.
kept_out = torch.compiler.disable(recursive=False)


def is_compiled(network: torch.nn.Module) -> bool:
    """Whether `torch.compile` has wrapped the network."""
    return hasattr(network, "_orig_mod")


class BlockCaller:
    """Lets nodes replace blocks, in the manner of ComfyUI's video models: `img` is the audio, `txt` the visual.

    Args:
        compiled: whether the blocks are compiled as they are called, and should be once for all lengths and batches.
    """

    @kept_out
    def __init__(self, transformer_options: dict, compiled: bool):
        self.options, self.compiled = transformer_options, compiled
        self.replacements = transformer_options.get("patches_replace", {}).get("dit", {})

    @kept_out
    def __call__(self, kind: str, index: int, block: torch.nn.Module, *inputs):
        if self.compiled:
            free_lengths(inputs)
        replace = self.replacements.get((kind, index))
        outputs = block(*inputs) if replace is None else self._replaced(replace, kind, block, inputs)
        if self.compiled:  # for the layers after the blocks
            free_lengths((outputs,))
        return outputs

    @kept_out
    def _replaced(self, replace: Callable, kind: str, block: torch.nn.Module, inputs: tuple):
        streams = ("img", "txt") if kind == "double_block" else ("img",)
        if kind == "double_block":  # of the last one, too, the visual stream may be of interest to what replaces it
            inputs = (*inputs[:-1], True)
        names = (*streams, "vec")

        def original_block(args):
            outputs = block(*(args[name] for name in names), *inputs[len(names):])
            return dict(zip(streams, outputs if len(streams) > 1 else (outputs,)))

        args = {**dict(zip(names, inputs)), "transformer_options": self.options}
        outputs = replace(args, {"original_block": original_block})
        return tuple(outputs[name] for name in streams) if len(streams) > 1 else outputs["img"]


@kept_out
def free_lengths(values: Iterable) -> None:
    """Tells the compiler, of the tensors in nested tuples, that only channels (last) and heads keep their number."""
    for value in values:
        if isinstance(value, tuple):
            free_lengths(value)
        elif isinstance(value, Tensor):
            fixed = {1, 3} if value.ndim == 4 else {value.ndim - 1} if value.is_floating_point() else set()
            free(value, set(range(value.ndim)) - fixed)


@kept_out
def free(x: Tensor, dims: set[int]) -> None:
    """Tells the compiler that these dimensions of `x` change."""
    for dim in dims:
        if x.shape[dim] > 1:  # a size of one is always a compilation of its own
            torch._dynamo.maybe_mark_dynamic(x, dim)
