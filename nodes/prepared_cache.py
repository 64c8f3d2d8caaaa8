"""Step-invariant work of the transformer, kept for one sampling run and never on the model.

The loader hangs `with_prepared_cache` around every sampling run of a Foley model. It puts an empty cache among the
run's `transformer_options`, from where `FoleyModel` takes it, and takes it away at the end.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch

from ..hunyuan_foley_core.velocity import KEPT_WINDOWS

CACHE_KEY = "foley_prepared_cache"

# Distinct batches of conditions within one step: a few without, one or two per window with context windows.
MAX_ENTRIES = 2 * KEPT_WINDOWS
# Whether an entry is alive in a window and what it is there, of every window and a dozen prompts; more are kept only where
# another node hands over new entries at every step.
MAX_PARTS = 2 * 12 * KEPT_WINDOWS

Conditions = tuple[torch.Tensor, ...]


class PreparedCache:
    """The results of the last few different inputs, found by the tensors themselves, or else by their content.

    Not by ComfyUI's condition ids, because context windows, batching and region masks hand different pieces of the same
    condition to the model.

    Attributes:
        times_may_differ: whether something in the run may take the samples of a step to noise levels of their own.
    """

    def __init__(self, times_may_differ: bool = False):
        self.times_may_differ = times_may_differ
        self._entries: tuple[tuple[Conditions, int, Any], ...] = ()
        self._parts: dict[tuple[int, Any], tuple[dict, Any]] = {}

    # What is kept is replaced as a whole and never changed, because ComfyUI may sample on several GPUs, each in a thread.

    def get(self, conditions: Conditions, latent_frames: int, prepare: Callable[[], Any]) -> Any:
        """What `prepare()` gave for equal conditions and length, newest first."""
        entries = self._entries
        entry = _find(entries, conditions, latent_frames, operator.is_)
        if entry is None:
            known = _find(entries, conditions, latent_frames, _equal)
            # Kept under these tensors as well: the next step brings them again, and would wait for a GPU to compare them.
            entry = (conditions, latent_frames, known[2] if known is not None else prepare())
        self._entries = (entry, *(other for other in entries if other is not entry))[:MAX_ENTRIES]
        return entry[2]

    def part(self, whole: dict, key: Any, make: Callable[[], Any]) -> Any:
        """What `make()` gave for this very entry of a condition and this key."""
        parts, place = self._parts, (id(whole), key)
        if place not in parts:
            newest = list(parts.items())[1 - MAX_PARTS :]
            self._parts = parts = {**dict(newest), place: (whole, make())}  # with the whole, whose id stays its own
        return parts[place][1]


def cache_of(model_options: dict) -> PreparedCache | None:
    """That of the run with these options, if it has one."""
    return model_options.get("transformer_options", {}).get(CACHE_KEY)


def part_of(cache: PreparedCache | None, whole: dict, key: Any, make: Callable[[], Any]) -> Any:
    """As `PreparedCache.part`; made anew where there is no cache."""
    return make() if cache is None else cache.part(whole, key, make)


def _find(entries: tuple, conditions: Conditions, latent_frames: int, alike: Callable[[Any, Any], bool]) -> tuple | None:
    return next((e for e in entries if e[1] == latent_frames and all(map(alike, e[0], conditions))), None)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def with_prepared_cache(executor, *args, **kwargs):
    """OUTER_SAMPLE wrapper: gives the run a fresh cache. The guider's options are a copy made for this run."""
    model_options = executor.class_obj.model_options
    options = model_options.setdefault("transformer_options", {})
    options[CACHE_KEY] = PreparedCache(times_may_differ="model_function_wrapper" in model_options)
    try:
        return executor(*args, **kwargs)
    finally:
        options.pop(CACHE_KEY, None)
