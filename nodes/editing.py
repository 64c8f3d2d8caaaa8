"""Doing a sound again, wholly or in part."""

from collections.abc import Sequence

import comfy.context_windows
import torch
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core.conditions import VideoFeatures
from ..hunyuan_foley_core.editing import DEFAULT_FADE, SHORTEST_REGION, Region, extend, region_mask, retake
from ..hunyuan_foley_core.errors import InputError
from ..hunyuan_foley_core.scenes import decode_scenes
from ..hunyuan_foley_core.seamless_loop import around, check_loop, decode_loop, features_around, folded, loop_frames, margin_of
from ..hunyuan_foley_core.timing import LATENT_RATE, SAMPLE_RATE, ClipTiming
from ..hunyuan_foley_core.windows import plan_windows, window_at, window_features
from .audio import require_audio
from .comfy_model import LENGTHS_KEY, SYNC_KEY, VISUAL_KEY
from .conditioning import CUTS_KEY, MASK_KEY, PICTURE_KEY, cuts_of, fitted
from .context_windows import HANDLER_KEY, FoleyContextHandler, windows_of_weights, with_default_windows
from .messages import tell
from .prepared_cache import PreparedCache, cache_of, part_of
from .sampler import FoleySampler, sample_latents
from .sockets import CATEGORY, require_foley_vae

MAX_SECONDS = 3600.0
PICTURE_ENDS = "The picture ends before the sound does: the new part was made from the prompt alone."
OF_PICTURE = (VISUAL_KEY, SYNC_KEY, CUTS_KEY, LENGTHS_KEY)


def sampling_inputs() -> list:
    """Those of Foley Sampler that say how to sample."""
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler")
    return [widget for widget in FoleySampler.define_schema().inputs if widget.id in names]


def generation_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="From Load Foley Model, with any LoRA or patch in between."),
        io.Conditioning.Input("positive", tooltip="From Encode Text, with the picture of the whole sound, if any."),
        io.Conditioning.Input("negative", tooltip="From Encode Text."),
        io.Vae.Input("vae", tooltip="From Load Foley VAE."),
    ]


def fade_input(default: float = DEFAULT_FADE):
    return io.Float.Input(
        "fade", default=default, min=0.0, max=60.0, step=0.01, round=0.001,
        tooltip="Seconds over which the old sound hands over to the new one, 0 (a hard cut) to 60.",
    )


def seconds_input(name: str, default: float, tooltip: str, least: float = 0.0):
    return io.Float.Input(name, default=default, min=least, max=MAX_SECONDS, step=0.01, round=0.001, tooltip=tooltip)


class VAECodec:
    """ComfyUI's VAE as the core's codec.

    Args:
        cuts: latent frames at which scenes begin; each is decoded by itself.
    """

    def __init__(self, vae, cuts: Sequence[int] = ()):
        require_foley_vae(vae)
        self.vae, self.cuts = vae, cuts

    def encode(self, waveform: torch.Tensor) -> torch.Tensor:
        return self.vae.encode(waveform.movedim(1, -1))

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return decode_scenes(lambda scene: self.vae.decode(scene).movedim(-1, 1), latents, self.cuts).float().cpu()


class PartSampler:
    """Samples a part of a sound, with the part of the picture that belongs to it.

    Attributes:
        warnings: what to tell the user afterwards.
    """

    def __init__(self, model, positive, negative, denoise: float = 1.0, **how):
        self.model, self.pair, self.how, self.warnings = model, (positive, negative), {**how, "denoise": denoise}, []

    @property
    def cuts(self) -> tuple[int, ...]:
        return cuts_of(extras for conditioning in self.pair for _, extras in conditioning)

    @property
    def has_scenes(self) -> bool:
        return bool(self.cuts)

    def __call__(self, latents: torch.Tensor, mask: torch.Tensor | None, first: int) -> torch.Tensor:
        frames = latents.shape[-1]
        if self.has_scenes:
            pair = self._in_scenes(frames)
        else:
            pair = [[[text, self._entry(extras, first, frames)] for text, extras in side] for side in self.pair]
        latent = {"samples": latents, "type": "audio", **({} if mask is None else {"noise_mask": mask})}
        return sample_latents(self.model, *pair, latent, **self.how)["samples"]

    def _in_scenes(self, frames: int) -> list:
        """Both conditionings for the whole sound, without the picture where that ends before the sound does."""
        dropped = () if self._reaches(frames) else OF_PICTURE
        if dropped:
            self.warnings = [PICTURE_ENDS]

        def entry(extras: dict) -> dict:
            kept = {name: value for name, value in extras.items() if name not in dropped}
            return {**kept, MASK_KEY: fitted(kept[MASK_KEY], frames)} if MASK_KEY in kept else kept

        return [[[text, entry(extras)] for text, extras in side] for side in self.pair]

    def _reaches(self, frames: int) -> bool:
        last = plan_windows(frames, windows_of_weights(self.model), self.cuts)[-1]
        try:
            for _, extras in self.pair[0]:
                if VISUAL_KEY in extras:
                    window_features(extras[VISUAL_KEY], extras[SYNC_KEY], last)
        except InputError:
            return False
        return True

    def _entry(self, extras: dict, first: int, frames: int) -> dict:
        entry, counts = dict(extras), ClipTiming.from_latent_frames(frames)
        if entry.pop(LENGTHS_KEY, None):
            entry[LENGTHS_KEY] = (counts.visual_tokens, counts.sync_tokens)
        if MASK_KEY in entry:
            entry[MASK_KEY] = fitted(entry[MASK_KEY], frames, first)
        if (visual := entry.pop(VISUAL_KEY, None)) is not None:
            try:
                window = window_at(first, frames, visual.shape[1])
                entry[VISUAL_KEY], entry[SYNC_KEY] = window_features(visual, entry.pop(SYNC_KEY), window)
            except InputError:
                self.warnings = [PICTURE_ENDS]
        return entry


class FoleyRetake(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyRetake",
            display_name="Foley Retake",
            category=CATEGORY,
            description="Makes a region of a sound anew and leaves every sample outside of it as it is, whatever its "
            "sample rate and channels. The model hears what is around the region.",
            inputs=[
                io.Audio.Input("audio", tooltip="The sound, of any length, sample rate and number of channels."),
                *generation_inputs(),
                seconds_input("start", 1.0, "Where the region begins, in seconds of the sound, 0 to 3600."),
                seconds_input(
                    "end", 2.0, f"Where it ends, in seconds: {SHORTEST_REGION:g} or more after its start, in the sound."
                ),
                fade_input(),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="How much of the region to replace, 0 to 1: 1 makes a new sound, less varies the old one.",
                ),
                *sampling_inputs(),
            ],
            outputs=[io.Audio.Output(tooltip="The whole sound with the new region in it, its rate and channels kept.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, audio, model, positive, negative, vae, start, end, fade, strength, **how) -> io.NodeOutput:
        sound, make = require_audio(audio), PartSampler(model, positive, negative, strength, **how)
        waveform = retake(
            sound["waveform"], sound["sample_rate"], Region(start, end, fade), VAECodec(vae, make.cuts), make,
            whole=make.has_scenes,
        )
        return io.NodeOutput({**sound, "waveform": waveform}, ui=tell(cls.hidden.unique_id, make.warnings))


class FoleyExtend(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyExtend",
            display_name="Foley Extend",
            category=CATEGORY,
            description="Lets a sound go on. Up to its last moments, where it hands over, every sample stays as it is.",
            inputs=[
                io.Audio.Input("audio", tooltip="The sound, of any length, sample rate and number of channels."),
                *generation_inputs(),
                seconds_input(
                    "seconds", 2.0, "How much longer the sound is to be, in seconds, 0.04 to 3600.", SHORTEST_REGION
                ),
                fade_input(),
                *sampling_inputs(),
            ],
            outputs=[io.Audio.Output(tooltip="The sound and what comes after it, its rate and channels kept.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, audio, model, positive, negative, vae, seconds, fade, **how) -> io.NodeOutput:
        sound, make = require_audio(audio), PartSampler(model, positive, negative, **how)
        waveform = extend(
            sound["waveform"], sound["sample_rate"], seconds, fade, VAECodec(vae, make.cuts), make, whole=make.has_scenes
        )
        return io.NodeOutput({**sound, "waveform": waveform}, ui=tell(cls.hidden.unique_id, make.warnings))


class FoleySeamlessLoop(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleySeamlessLoop",
            display_name="Foley Seamless Loop",
            category=CATEGORY,
            description="Makes a sound whose end goes on into its beginning, for a video that loops.",
            inputs=[
                *generation_inputs(),
                io.Latent.Input("latent", tooltip="From Empty Foley Latent: the length of the loop, 0.64 s or more."),
                *sampling_inputs(),
            ],
            outputs=[io.Audio.Output(tooltip="The loop: 48 kHz, one channel, to be played round and round.")],
        )

    @classmethod
    def execute(cls, model, positive, negative, vae, latent, **how) -> io.NodeOutput:
        codec, seconds = VAECodec(vae), latent.get(PICTURE_KEY, latent["samples"].shape[-1] / LATENT_RATE)
        check_loop(seconds)
        frames = loop_frames(seconds)
        latent = {**latent, "samples": fitted(latent["samples"], frames)}
        patched = model.clone()
        patched.model_options[HANDLER_KEY] = LoopHandler(with_default_windows(model).model_options[HANDLER_KEY])
        pair = [[[text, _around(extras, frames)] for text, extras in side] for side in (positive, negative)]
        latents = sample_latents(patched, *pair, latent, **how)["samples"]
        return io.NodeOutput({"waveform": decode_loop(latents, codec.decode, seconds), "sample_rate": SAMPLE_RATE})


def _around(extras: dict, frames: int) -> dict:
    """An entry of a CONDITIONING for a loop of so many latent frames: what the model sees of it, margins included."""
    margin = margin_of(frames)
    entry, counts = dict(extras), ClipTiming.from_latent_frames(frames + 2 * margin)
    entry[LENGTHS_KEY] = counts.visual_tokens, counts.sync_tokens
    if MASK_KEY in entry:
        entry[MASK_KEY] = fitted(entry[MASK_KEY], frames)
    if VISUAL_KEY in entry:
        seen = VideoFeatures(entry[VISUAL_KEY], entry[SYNC_KEY], frames / LATENT_RATE, cuts_of([extras]))
        seen = features_around(seen, frames, margin)
        entry[VISUAL_KEY], entry[SYNC_KEY] = seen.visual, seen.sync
    return entry


class LoopHandler(comfy.context_windows.ContextHandlerABC):
    """Shows the model at every step the loop with its own other end on both sides; a long one in windows."""

    def __init__(self, windows: FoleyContextHandler):
        self.windows = windows

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        return True

    def get_resized_cond(self, cond_in, x_in, window, device=None, cache: PreparedCache | None = None):
        """The entries as they hold in the loop and its margins. `cache` keeps them for later steps."""
        margin = margin_of(x_in.shape[-1])

        def shown(entry: dict) -> dict:
            if MASK_KEY not in entry:
                return entry
            return part_of(cache, entry, margin, lambda: {**entry, MASK_KEY: around(entry[MASK_KEY], margin)})

        return cond_in and [shown(entry) for entry in cond_in]

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        margin, cache = margin_of(x_in.shape[-1]), cache_of(model_options)
        conds = [self.get_resized_cond(cond, x_in, None, cache=cache) for cond in conds]
        shown = self.windows.execute(calc_cond_batch, model, conds, around(x_in, margin), timestep, model_options)
        return [folded(prediction, margin) for prediction in shown]


class FoleyRegionMask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyRegionMask",
            display_name="Foley Region Mask",
            category=CATEGORY,
            description="Lets a sampler make only a region of the latents anew, Foley Sampler or a stock one. The sound "
            "around it still goes through the codec; Foley Retake keeps its samples.",
            inputs=[
                io.Latent.Input("samples", tooltip="From DAC Encode or a sampler."),
                seconds_input("start", 1.0, "Where the region begins, in seconds, 0 to 3600."),
                seconds_input("end", 2.0, "Where it ends, in seconds, 0.04 or more after its start."),
                fade_input(),
            ],
            outputs=[io.Latent.Output(tooltip="The same latents with a mask, which samplers keep to.")],
        )

    @classmethod
    def execute(cls, samples, start, end, fade) -> io.NodeOutput:
        frames = samples["samples"].shape[-1]
        seconds = frames / LATENT_RATE
        mask = region_mask(Region(start, end, fade).within(seconds), seconds, 0, frames)
        return io.NodeOutput({**samples, "noise_mask": mask})
