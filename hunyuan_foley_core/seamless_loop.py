"""Sound without a seam: its end goes on into its beginning, for a video that loops.

The clip is laid on a circle. At every step the model is shown, before and after the clip, the clip's own other end (and
the picture's). So it predicts what is around the joint twice, as the end and as the beginning, and one hands over to
the other as between the windows of a long clip; the codec decodes across the joint too.
Letters: B batch, C latent channels, L latent frames, V visual tokens, S sync tokens.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .conditions import VideoFeatures
from .errors import InputError
from .timing import LATENT_HOP, LATENT_RATE, SEGMENT_HOP, SEGMENT_TOKENS, SYNC_RATE, VISUAL_RATE, ClipTiming, samples
from .windows import SEGMENT_LATENTS

# Latent frames of its other end that a clip is shown on both sides, where it has twice as many.
LONGEST_MARGIN = 2 * SEGMENT_LATENTS
# The codec hears about half as far, and what lies beyond changes nothing.
DECODE_MARGIN = 64
SHORTEST_LOOP = 0.64  # seconds: one sync segment


def check_loop(seconds: float) -> None:
    """Raises InputError for a loop too short to be one."""
    if not SHORTEST_LOOP <= seconds < math.inf:
        raise InputError(
            f"The loop is to be {seconds:g} s long.", f"Expected at least {SHORTEST_LOOP} s.",
            "Make a longer one, or repeat the video before.",
        )


def loop_frames(seconds: float) -> int:
    """Latent frames of a loop that lasts `seconds`: as many as come nearest."""
    return round(seconds * LATENT_RATE)


def margin_of(latent_frames: int) -> int:
    """What a loop of L frames is shown of its other end on both sides: a multiple of 16, where sync segments begin."""
    return min(LONGEST_MARGIN, latent_frames // 2 // SEGMENT_LATENTS * SEGMENT_LATENTS)


def around(x: Tensor, margin: int) -> Tensor:
    """x [..., L] with `margin` frames of its other end before and after it, [..., L + 2 margin]."""
    return x[..., torch.arange(-margin, x.shape[-1] + margin, device=x.device) % x.shape[-1]]


def folded(shown: Tensor, margin: int) -> Tensor:
    """[..., L] of what was predicted for `around`, [..., L + 2 margin]: on both sides of the joint the end's prediction
    hands over to the beginning's on a raised cosine."""
    if not margin:
        return shown
    passed = (torch.arange(2 * margin, device=shown.device) + 0.5) / (2 * margin)
    rise = ((1 - torch.cos(math.pi * passed)) / 2).to(shown)
    weights = torch.cat((rise, rise.new_ones(shown.shape[-1] - 4 * margin), rise.flip(0)))
    length = shown.shape[-1] - 2 * margin
    places = torch.arange(-margin, length + margin, device=shown.device) % length
    return shown.new_zeros(*shown.shape[:-1], length).index_add(-1, places, shown * weights)


def features_around(features: VideoFeatures, latent_frames: int, margin: int) -> VideoFeatures:
    """The features of a clip of L latent frames that loops, as a clip of L + 2 margin frames has them.

    Raises:
        InputError: the clip has cuts, and with them windows that end at its ends.
    """
    if features.cuts:
        raise InputError(
            f"The video has {len(features.cuts)} cuts.", "Expected a single scene to make a loop of.",
            "Encode it without scenes.",
        )
    visual, sync = features.visual, features.sync
    counts = ClipTiming.from_latent_frames(latent_frames + 2 * margin)
    seconds, offset = latent_frames / LATENT_RATE, margin / LATENT_RATE
    pictures = _nearest(counts.visual_tokens, visual.shape[1], 1 / VISUAL_RATE, offset, seconds)
    segments = _nearest(
        counts.sync_tokens // SEGMENT_TOKENS, sync.shape[1] // SEGMENT_TOKENS, SEGMENT_HOP / SYNC_RATE, offset, seconds
    )
    whole_segments = sync.unflatten(1, (-1, SEGMENT_TOKENS))
    return VideoFeatures(visual[:, pictures], whole_segments[:, segments].flatten(1, 2), seconds + 2 * offset)


def _nearest(wanted: int, given: int, hop: float, offset: float, period: float) -> Tensor:
    """Which of `given` tokens, `hop` seconds apart on a circle of `period` seconds, is nearest to each of `wanted` ones
    that begin `offset` seconds before the first; int64 [wanted]."""
    times = torch.arange(wanted, dtype=torch.float64) * hop - offset
    apart = (times[:, None] - torch.arange(given, dtype=torch.float64) * hop).remainder(period)
    return torch.minimum(apart, period - apart).argmin(dim=1)


def decode_loop(latents: Tensor, decode: Callable[[Tensor], Tensor], seconds: float) -> Tensor:
    """[B, 1, N]: the latents [B, C, L] of a loop as sound of `seconds` to the sample, decoded across the joint."""
    edge = DECODE_MARGIN * LATENT_HOP
    return lasting(decode(around(latents, DECODE_MARGIN))[..., edge:-edge], samples(seconds))


def lasting(loop: Tensor, length: int) -> Tensor:
    """A loop [..., N] resampled to `length` samples, without a seam: its spectrum has as many more or fewer frequencies.

    Half a latent frame at most is made up for, so that pitch and times change by 0.5 % in 2 s, less in longer loops.
    """
    if loop.shape[-1] == length:
        return loop
    spectrum = torch.fft.rfft(loop.double()) * (length / loop.shape[-1])
    return torch.fft.irfft(spectrum, n=length).to(loop)
