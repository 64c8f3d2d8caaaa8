"""What a CONDITIONING of ours carries, and switching between its text variants."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from ..hunyuan_foley_core.conditions import BANDWIDTH_TAG, VideoFeatures
from ..hunyuan_foley_core.errors import InputError, WrongConnectionError
from ..hunyuan_foley_core.timing import LATENT_RATE
from .comfy_model import LENGTHS_KEY, SOURCES_KEY, SYNC_KEY, VISUAL_KEY

MASK_KEY = "mask"  # ComfyUI's own: how much an entry counts at each latent frame [1, L]
PICTURE_KEY = "foley_picture_seconds"  # in a LATENT: how long the picture is that it was made for
CUTS_KEY = "foley_cuts"  # latent frames at which the scenes of the features begin, without 0; absent for one scene
TEXT_KEY = "foley_text"  # text features [1, T, text_dim] by variant
NO_TAG = "none"
TAG_VARIANTS = (BANDWIDTH_TAG, NO_TAG)
AS_ENCODED = "as encoded"

Variants = dict[str, torch.Tensor]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FoleyVideo:
    """What the FOLEY_VIDEO socket carries.

    Attributes:
        sources: names of the encoders' files by kind of feature, for messages.
        seconds: length of the picture, which mostly ends a little after what the model counts of it; None: not known.
    """

    features: VideoFeatures
    sources: dict[str, str]
    seconds: float | None = None

    def get_ram_usage(self) -> int:
        """Bytes, for ComfyUI's cache."""
        return self.features.visual.nbytes + self.features.sync.nbytes


def conditioning_pair(
    positive: Variants, negative: Variants, variant: str, video: FoleyVideo | None, sources: dict[str, str]
) -> tuple[list, list]:
    """Positive and negative CONDITIONING.

    The unconditional half sees the learned empty features; it gets the lengths of the real ones, so that the two have
    equal shapes and run as one batch. Without a video both halves do, at the length the latent implies.
    """
    return timed_conditioning([positive], None, negative, variant, video, sources)


def timed_conditioning(
    positive: Sequence[Variants], weights: torch.Tensor | None, negative: Variants, variant: str, video: FoleyVideo | None,
    sources: dict[str, str],
) -> tuple[list, list]:
    """The same of several prompts, each an entry with a mask over the latent frames.

    Args:
        weights: of each prompt at each latent frame [P, L]; None: one prompt for the whole clip.
    """
    extras, seen = {SOURCES_KEY: sources}, {}
    if video is not None:
        visual, sync = video.features.visual, video.features.sync
        extras = {SOURCES_KEY: {**sources, **video.sources}, LENGTHS_KEY: (visual.shape[1], sync.shape[1])}
        seen = {VISUAL_KEY: visual, SYNC_KEY: sync}
        if video.features.cuts:
            extras[CUTS_KEY] = video.features.cuts
    masks = [{}] if weights is None else [{MASK_KEY: mask[None]} for mask in weights]
    return (
        [
            [text[variant], {**extras, **seen, **mask, TEXT_KEY: text}]
            for text, mask in zip(positive, masks, strict=True)
        ],
        [[negative[variant], {**extras, TEXT_KEY: negative}]],
    )


def fitted(columns: torch.Tensor, frames: int, first: int = 0) -> torch.Tensor:
    """Of [..., L] so many latent frames from a first one on; behind the end the last column, so that weights sum to one."""
    places = torch.arange(first, first + frames, device=columns.device)
    return columns[..., places.clamp(max=columns.shape[-1] - 1)]


def fit_masks(entries: Iterable[dict], latent_frames: int) -> None:
    """Makes the masks as long as the latents: a film's own sound may be a little longer than its picture, or shorter.

    Raises:
        InputError: a prompt was timed for another length, half a second away or more.
    """
    for entry in (entry for entry in entries if MASK_KEY in entry):
        length = entry[MASK_KEY].shape[-1]
        if 2 * abs(length - latent_frames) >= LATENT_RATE:
            raise InputError(
                f"The prompts are timed for {length / LATENT_RATE:.2f} s of sound, the latent has "
                f"{latent_frames / LATENT_RATE:.2f} s.", "Expected the same length.",
                "Connect the same video to Foley Timed Prompts and to Empty Foley Latent, or give both the same seconds.",
            )
        entry[MASK_KEY] = fitted(entry[MASK_KEY], latent_frames)


def cuts_of(entries: Iterable[dict]) -> tuple[int, ...]:
    """The cuts that entries of a CONDITIONING carry; none: their features are of one scene, or of no picture."""
    return next((entry[CUTS_KEY] for entry in entries if CUTS_KEY in entry), ())


def with_variant(conditioning: list, variant: str) -> list:
    """The conditioning with the text of another variant. Text that another node has changed stays as it is.

    Raises:
        InputError: the conditioning carries no variants.
    """
    if variant == AS_ENCODED:
        return conditioning
    return [[_variant_of(text, extras, variant), extras] for text, extras in conditioning]


def _variant_of(text: torch.Tensor, extras: dict, variant: str) -> torch.Tensor:
    variants = extras.get(TEXT_KEY)
    if variants is None:
        raise WrongConnectionError(
            "The conditioning does not come from Encode Text (CLAP): it has no variants with and without the tag.",
            f"Expected one that does, for the bandwidth tag `{variant}`.",
            f"Set the sampler's bandwidth tag to `{AS_ENCODED}`, or connect Encode Text (CLAP).",
        )
    if not any(known.shape == text.shape and torch.equal(known, text) for known in variants.values()):
        logger.warning("Text features changed after Encode Text keep their bandwidth tag, not `%s`.", variant)
        return text
    return variants[variant]
