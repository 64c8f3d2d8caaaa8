"""Long sound through ComfyUI's samplers: the core's windows as a context handler, with the core's weights."""

from collections.abc import Callable
from functools import lru_cache

import comfy.context_windows
import comfy.model_management
import torch
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.timing import LATENT_RATE, MAX_SECONDS
from ..hunyuan_foley_core.velocity import KEPT_WINDOWS
from ..hunyuan_foley_core.windows import Window, WindowSettings, fuse, plan_windows, takes_whole, window_features
from .comfy_model import LENGTHS_KEY
from .conditioning import MASK_KEY, cuts_of, fit_masks
from .prepared_cache import CACHE_KEY, PreparedCache, cache_of, part_of
from .sockets import CATEGORY, require_foley_model

HANDLER_KEY = "context_handler"  # where ComfyUI's samplers look for one among the options of a model


class FoleyContextWindows(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        released = WindowSettings()
        length, overlap, whole = (
            f"{frames / LATENT_RATE:g}" for frames in (released.length, released.overlap, released.longest_whole)
        )
        return io.Schema(
            node_id="FoleyContextWindows",
            display_name="Foley Context Windows",
            category=CATEGORY,
            description="Lets any sampler make sound longer than the model knows: in windows that overlap and are fused at "
            "every step. Foley Sampler does this by itself, as the weights want it; use this node for another sampler, or for "
            "other lengths.",
            inputs=[
                io.Model.Input("model", tooltip="From Load Foley Model, with any LoRA or patch in between."),
                io.Float.Input(
                    "window_seconds", default=0.0, min=0.0, max=MAX_SECONDS, step=0.32, round=0.01,
                    tooltip="Length of a window in seconds, 1 to 15; sound that is no longer is made in one piece. 0: as the "
                    f"weights want it; the released model wants windows of {length} for more than {whole}.",
                ),
                io.Float.Input(
                    "overlap_seconds", default=0.0, min=0.0, max=MAX_SECONDS, step=0.32, round=0.01,
                    tooltip="What neighbouring windows share at least, in seconds, 0.32 to 15 and at least 0.32 below the "
                    f"window; 0: as the weights want it, {overlap} with the released model. More is slower and holds longer "
                    "sounds together better.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The model, which makes longer sound in these windows, for any sampler.")],
        )

    @classmethod
    def execute(cls, model, window_seconds: float, overlap_seconds: float) -> io.NodeOutput:
        require_foley_model(model)
        settings = windows_of_weights(model).changed(window_seconds or None, overlap_seconds or None)
        return io.NodeOutput(with_windows(model, settings))


def with_windows(model, settings: WindowSettings):
    """A copy of the ModelPatcher that samples long sound in windows."""
    patched = model.clone()
    patched.model_options[HANDLER_KEY] = FoleyContextHandler(settings)
    return patched


def with_default_windows(model):
    """The same with the lengths that its weights want, unless the model has a handler."""
    return model if HANDLER_KEY in model.model_options else with_windows(model, windows_of_weights(model))


def windows_of_weights(model) -> WindowSettings:
    """In which windows a ModelPatcher's weights are best."""
    return model.model.diffusion_model.windows


@lru_cache(maxsize=4)
def _plan(frames: int, settings: WindowSettings, cuts: tuple[int, ...], device: torch.device | str) -> tuple[Window, ...]:
    return tuple(window.to(device) for window in plan_windows(frames, settings, cuts))


class FoleyContextHandler(comfy.context_windows.ContextHandlerABC):
    """Evaluates conditions window by window. Each window has whole sync segments, and only the prompts alive in it."""

    def __init__(self, settings: WindowSettings):
        self.settings = settings

    def windows(self, conds, frames: int, device: torch.device | str = "cpu") -> tuple[Window, ...]:
        return _plan(frames, self.settings, cuts_of(entry for cond in conds for entry in cond or ()), device)

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        frames, entries = x_in.shape[-1], [entry for cond in conds for entry in cond or ()]
        return len(self.windows(conds, frames)) > 1 or not _takes_whole(entries, frames)

    def get_resized_cond(self, cond_in, x_in, window: Window, device=None, cache: PreparedCache | None = None):
        """The entries as they hold in the window: those alive in it, or else all. `cache` keeps them for later steps."""
        if cond_in is None:
            return None
        # All that the functions read of it: where scenes count their tokens for themselves, its frames alone do not tell.
        place = window.start, window.stop, window.visual, window.sync, window.beyond

        def once(function: Callable, entry: dict):
            return part_of(cache, entry, (function, place), lambda: function(entry, window))

        alive = [entry for entry in cond_in if once(_is_alive, entry)]
        return [once(_entry_in, entry) for entry in alive or cond_in]

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        windows = self.windows(conds, x_in.shape[-1], x_in.device)
        options = _options(model_options, len(windows))
        cache = cache_of(options)

        def predict(window: Window) -> torch.Tensor:
            comfy.model_management.throw_exception_if_processing_interrupted()
            parts = [self.get_resized_cond(cond, x_in, window, cache=cache) for cond in conds]
            return torch.stack(calc_cond_batch(model, parts, window.shown(x_in), timestep, options))

        return list(fuse(windows, map(predict, windows)).unbind())


def _options(model_options: dict, windows: int) -> dict:
    """Without the cache of what no step changes, where that would grow with the sound."""
    if windows <= KEPT_WINDOWS:
        return model_options
    options = {name: value for name, value in model_options["transformer_options"].items() if name != CACHE_KEY}
    return {**model_options, "transformer_options": options}


def _takes_whole(entries, frames: int) -> bool:
    return all(takes_whole(entry[LENGTHS_KEY][1], frames) for entry in entries if entry.get(LENGTHS_KEY))


def _is_alive(entry: dict, window: Window) -> bool:
    return MASK_KEY not in entry or bool((entry[MASK_KEY][..., window.frames] > 0).any())


def _entry_in(entry: dict, window: Window) -> dict:
    """An entry of a condition as it holds in a window."""
    features = entry["model_conds"]
    parts = window_features(features["visual"].cond, features["sync"].cond, window)
    cut = {name: features[name]._copy_with(part) for name, part in zip(("visual", "sync"), parts, strict=True)}
    entry = {**entry, "model_conds": {**features, **cut}}
    if MASK_KEY in entry:
        entry[MASK_KEY] = window.shown(entry[MASK_KEY])
    return entry


def with_scenes_and_times(executor, noise, *args, **kwargs):
    """OUTER_SAMPLE wrapper: conditions that were made of several scenes, or of a picture that is not as long as the
    latents, are sampled in windows by every sampler, and timed prompts must be timed for these latents.
    """
    guider = executor.class_obj
    entries = [entry for cond in guider.conds.values() for entry in cond]
    fit_masks(entries, noise.shape[-1])
    if cuts_of(entries) or not _takes_whole(entries, noise.shape[-1]):
        guider.model_options.setdefault(HANDLER_KEY, FoleyContextHandler(windows_of_weights(guider.model_patcher)))
    return executor(noise, *args, **kwargs)


def with_memory_of_a_window(executor, model, noise_shape, *args, **kwargs):
    """PREPARE_SAMPLING wrapper: room is made for as many frames as are computed at once."""
    return executor(model, shape_at_once(kwargs.get("model_options"), noise_shape), *args, **kwargs)


def shape_at_once(model_options: dict | None, shape) -> list[int]:
    """Of latents of this shape, the largest part [B, C, L] that a step computes at once."""
    handler = (model_options or {}).get(HANDLER_KEY)
    if not isinstance(handler, FoleyContextHandler):
        return list(shape)
    longest = max(window.stop - window.start + window.beyond for window in handler.windows((), shape[-1]))
    return [*shape[:-1], longest]
