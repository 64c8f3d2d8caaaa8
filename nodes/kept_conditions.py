"""Conditions that hand the same tensor to every step, so that `PreparedCache` knows it without looking at its values."""

import comfy.conds
import torch


class KeptCond(comfy.conds.CONDRegular):
    """Is repeated to a batch, and joined with other conditions, once; ComfyUI does both at every step.

    To compare values instead would make each step wait until a GPU has done all that was asked of it.
    """

    def __init__(self, cond):
        super().__init__(cond)
        self._repeated, self._joined = {}, {}

    def process_cond(self, batch_size, **kwargs):
        if batch_size not in self._repeated:
            self._repeated[batch_size] = super().process_cond(batch_size, **kwargs)
        return self._repeated[batch_size]

    def concat(self, others):
        key = tuple(map(id, others))
        _, joined, version = self._joined.get(key, (None, None, None))
        if joined is None or joined._version != version:  # a model_function_wrapper may change in place what it is handed
            with torch.inference_mode(False):  # in which tensors count their changes
                joined = super().concat(others)
            self._joined[key] = (others, joined, joined._version)  # with the others, whose ids stay theirs
        return joined
