"""How the blocks of a Foley model are called: replaced where a node asks for it, and compiled one at a time.

TorchCompileModel compiles whatever runs inside the diffusion model. That is kept from it as a whole, and each block is
handed to its compiler: all blocks of a kind then share one short compilation, and nodes that replace or skip blocks do
not break it. Between the blocks the compiler is off and costs nothing.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps

import torch
from torch import Tensor

# Of one kind of block in a process: two for the batches, times the models, the attentions, and what is loaded in part.
MOST_VERSIONS = 64


def kept_out(function: Callable) -> Callable:
    """The function with all that it calls, other than what `compiler_of` compiles."""
    with_all = torch.compiler.disable(function)

    # The compiler passes over this one without a look. To meet the other would count as a break of the graph.
    @wraps(function)
    def alone(*args, **kwargs):
        return with_all(*args, **kwargs)

    return torch.compiler.disable(alone, recursive=False)


Compiler = Callable[[Callable], Callable]


def compiler_of(network: torch.nn.Module) -> Compiler | None:
    """What `torch.compile` wrapped the network with, as it was set there; None: it did not."""
    return getattr(network, "dynamo_ctx", None)


def many_versions(compiler: Compiler | None) -> AbstractContextManager:
    """Within it the compiler goes on to compile a block of which it has eight versions, where it would give up."""
    if compiler is None:
        return nullcontext()
    config = torch._dynamo.config
    return config.patch(cache_size_limit=max(MOST_VERSIONS, config.cache_size_limit))  # of newer torch `recompile_limit` too


class BlockCaller:
    """Lets nodes replace blocks, in the manner of ComfyUI's video models: `img` is the audio, `txt` the visual.

    Args:
        compiler: compiles the blocks as they are called, once for all lengths and batches; None: nothing is compiled.
    """

    def __init__(self, transformer_options: dict, compiler: Compiler | None):
        self.options, self.compiler = transformer_options, compiler
        self.replacements = transformer_options.get("patches_replace", {}).get("dit", {})
        self._compiled: dict[Callable, Callable] = {}

    def __call__(self, kind: str, index: int, block: torch.nn.Module, *inputs):
        replace = self.replacements.get((kind, index))
        return self._call(block, inputs) if replace is None else self._replaced(replace, kind, block, inputs)

    def _call(self, block: torch.nn.Module, inputs: tuple):
        if self.compiler is None or is_changed(block):
            return block(*inputs)
        free_lengths(inputs)
        forward = type(block).forward
        if forward not in self._compiled:
            self._compiled[forward] = self.compiler(forward)
        return self._compiled[forward](block, *inputs)

    def _replaced(self, replace: Callable, kind: str, block: torch.nn.Module, inputs: tuple):
        streams = ("img", "txt") if kind == "double_block" else ("img",)
        if kind == "double_block":  # of the last one, too, the visual stream may be of interest to what replaces it
            inputs = (*inputs[:-1], True)
        names = (*streams, "vec")

        def original_block(args):
            outputs = self._call(block, (*(args[name] for name in names), *inputs[len(names):]))
            return dict(zip(streams, outputs if len(streams) > 1 else (outputs,)))

        args = {**dict(zip(names, inputs)), "transformer_options": self.options}
        outputs = replace(args, {"original_block": original_block})
        return tuple(outputs[name] for name in streams) if len(streams) > 1 else outputs["img"]


def is_changed(block: torch.nn.Module) -> bool:
    """Whether another node has put something into this block that its class does not know of."""
    return "forward" in vars(block) or bool(block._forward_hooks or block._forward_pre_hooks)


def free_lengths(values: Iterable) -> None:
    """Tells the compiler, of the tensors in nested tuples, that only channels (last) and heads keep their number."""
    for value in values:
        if isinstance(value, tuple):
            free_lengths(value)
        elif isinstance(value, Tensor) and not hasattr(value, "_dynamo_weak_dynamic_indices"):  # then it is told
            fixed = {1, 3} if value.ndim == 4 else {value.ndim - 1} if value.is_floating_point() else set()
            for dim in set(range(value.ndim)) - fixed:
                if value.shape[dim] > 1:  # a size of one is always a compilation of its own
                    torch._dynamo.maybe_mark_dynamic(value, dim)
