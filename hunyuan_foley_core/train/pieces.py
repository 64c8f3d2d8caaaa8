"""Pieces of cached clips: what a shorter video would have given, where a sync segment begins."""

from collections.abc import Mapping

from torch import Tensor

from ..timing import SEGMENT_TOKENS, ClipTiming
from ..windows import SEGMENT_LATENTS, first_picture


def starts(shapes: Mapping[str, list[int]], latent_frames: int) -> int:
    """At how many segments a piece of so many latent frames can begin, in a clip whose tensors have these shapes."""
    spare = shapes["mean"][1] - latent_frames
    spare_tokens = shapes["sync"][0] - ClipTiming.from_latent_frames(latent_frames).sync_tokens
    return max(0, min(spare // SEGMENT_LATENTS, spare_tokens // SEGMENT_TOKENS) + 1)


def cut(tensors: Mapping[str, Tensor], segment: int, latent_frames: int) -> dict[str, Tensor]:
    """The part of a clip's tensors that begins at a segment and has so many latent frames; the text stays whole."""
    timing, first = ClipTiming.from_latent_frames(latent_frames), segment * SEGMENT_LATENTS
    whole = tensors["mean"].shape[1]
    visual = first_picture(first, len(tensors["visual"]), timing.visual_tokens)
    cuts = {
        "mean": lambda x: x[:, first : first + latent_frames],
        "logvar": lambda x: x[:, first : first + latent_frames],
        "visual": lambda x: x[visual : visual + timing.visual_tokens],
        "sync": lambda x: x[segment * SEGMENT_TOKENS :][: timing.sync_tokens],
        # At the teacher's own rate.
        "teacher": lambda x: x[first * len(x) // whole :][: latent_frames * len(x) // whole],
    }
    return {name: cuts[name](tensor) if name in cuts else tensor for name, tensor in tensors.items()}
