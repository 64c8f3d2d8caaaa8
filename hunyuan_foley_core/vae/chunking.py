"""Cutting a stack of 1-D convolutions along time without changing what it computes.

A chunk is computed from its own frames plus as many real frames on either side as the stack can see. At the true ends
of the signal the window stops where the signal stops, so every layer pads with zeros exactly where it would without
chunks; at an inner edge the padding is wrong, and everything it can reach is cropped away.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil

import torch

from ..errors import InputError


@dataclass(frozen=True)
class Context:
    """Frames a chunk has to see beyond its own on either side."""

    left: int
    right: int


@dataclass(frozen=True)
class Chunk:
    """Frames `start` to `stop` of a result, computed from frames `read_start` to `read_stop`."""

    start: int
    stop: int
    read_start: int
    read_stop: int

    @property
    def read_frames(self) -> int:
        return self.read_stop - self.read_start

    def own(self, frame: int = 1) -> slice:
        """Where the chunk's own part lies in what was computed from its window, `frame` positions per frame."""
        return slice((self.start - self.read_start) * frame, (self.stop - self.read_start) * frame)


def inputs_needed(convolution: torch.nn.Module, first: int, last: int) -> tuple[int, int]:
    """First and last input position that outputs `first` to `last` of a 1-D (transposed) convolution depend on."""
    (kernel,), (stride,) = convolution.kernel_size, convolution.stride
    (padding,), (dilation,) = convolution.padding, convolution.dilation
    span = dilation * (kernel - 1)
    if isinstance(convolution, torch.nn.ConvTranspose1d):
        return ceil((first + padding - span) / stride), (last + padding) // stride
    return first * stride - padding, last * stride - padding + span


def context_of(network: torch.nn.Module, *, frame_in: int, frame_out: int) -> Context:
    """How far beyond a frame a network of convolutions sees, in whole frames.

    Residual branches may be walked as if they were in series, because the shortcut sees less than its branch.
    Every layer here sees at least its own output position, so the reach is widest at the input of the network.

    Args:
        network: its convolutions are registered in the order they run in.
        frame_in: positions one frame spans at the input.
        frame_out: positions one frame spans at the output.
    """
    kinds = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)
    first, last = 0, frame_out - 1
    for convolution in reversed([module for module in network.modules() if isinstance(module, kinds)]):
        first, last = inputs_needed(convolution, first, last)
    return Context(left=-(first // frame_in), right=last // frame_in)


def plan_chunks(frames: int, chunk_frames: int | None, context: Context) -> list[Chunk]:
    """Chunks of nearly equal size, none above `chunk_frames` (None: one piece), that tile `frames` frames.

    Raises:
        InputError: `chunk_frames` is below 1.
    """
    if chunk_frames is not None and chunk_frames < 1:
        raise InputError(
            f"A chunk of {chunk_frames} frames was asked for.",
            "Expected at least 1 frame, or None for one piece.",
            "Leave chunk_frames at its default unless memory is short.",
        )
    pieces = 1 if chunk_frames is None else ceil(frames / chunk_frames)
    edges = [frames * i // pieces for i in range(pieces + 1)]
    return [
        Chunk(start, stop, max(0, start - context.left), min(frames, stop + context.right))
        for start, stop in pairwise(edges)
    ]


def longest_window(frames: int, chunk_frames: int | None, context: Context) -> int:
    """Most frames that any chunk of `plan_chunks` reads."""
    return max((chunk.read_frames for chunk in plan_chunks(frames, chunk_frames, context)), default=0)


def walk(
    batch: int, chunks: list[Chunk], callback: Callable[[int, int], None] | None
) -> Iterator[tuple[int, Chunk]]:
    """Every (sample, chunk), one sample at a time so that memory does not grow with the batch either.

    Once the caller is done with a chunk, `callback(done, total)` is called; it may raise to cancel.
    """
    total = batch * len(chunks)
    for done, item in enumerate(product(range(batch), chunks), start=1):
        yield item
        if callback is not None:
            callback(done, total)
