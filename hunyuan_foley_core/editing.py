"""Doing a part of a sound again: a region, an end that goes on, or all of it, less or more like it was.

What is not made anew is never touched: the old samples stay, at whatever rate and in however many channels they came,
and the new ones are laid into their place. Letters: B batch, C latent channels, L latent frames, N samples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from . import media
from .errors import InputError
from .timing import LATENT_RATE, SAMPLE_RATE, samples
from .windows import SEGMENT_LATENTS, WindowSettings

DEFAULT_FADE = 0.05  # seconds: long enough to hide a joint in noise, shorter than what is heard as two sounds
LEAST_CONTEXT = 100  # latent frames on both sides of a long region
SHORTEST_REGION = 0.04  # seconds: two latent frames
_ROUNDING = 1e-3  # seconds by which a region may end after a sound whose length was typed with three digits


class Codec(Protocol):
    def encode(self, waveform: Tensor) -> Tensor:
        """[B, 1, N] at 48 kHz -> latents [B, C, L]."""

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, L] -> [B, 1, L * 960] at 48 kHz."""


# (old latents [B, C, L], mask [1, 1, L] or None for all, first latent frame of the sound they begin at) -> new latents
Make = Callable[[Tensor, Tensor | None, int], Tensor]


@dataclass(frozen=True)
class Region:
    """What to make anew, in seconds; over `fade` at both ends, within it, the old sound hands over to the new."""

    start: float
    end: float
    fade: float = DEFAULT_FADE

    def within(self, seconds: float) -> "Region":
        """The same, cut to a sound of `seconds`.

        Raises:
            InputError: the region is reversed, lies outside of the sound, or has no room for its fades.
        """
        numbers = f"The region goes from {self.start:g} s to {self.end:g} s"
        if not math.isfinite(self.start + self.end) or self.end - self.start < SHORTEST_REGION:
            raise InputError(
                f"{numbers}.", f"Expected an end at least {SHORTEST_REGION:g} s after the start.", "Change them."
            )
        if self.start < 0 or self.end > seconds + _ROUNDING:
            raise InputError(
                f"{numbers}, the sound is {seconds:.3f} s long.", "Expected a region inside the sound.",
                "To make the sound longer, extend it.",
            )
        region = replace(self, end=min(self.end, seconds))
        if not self.fade >= 0 or sum(region.fades(seconds)) > region.end - region.start:
            raise InputError(
                f"{numbers} with fades of {self.fade:g} s.", "Expected fades of 0 s or more that fit into the region.",
                "Make the fade shorter or the region longer.",
            )
        return region

    def fades(self, seconds: float) -> tuple[float, float]:
        """Fades at the start and the end: none where the sound itself begins or ends."""
        return self.fade if self.start > 0 else 0.0, self.fade if self.end < seconds else 0.0


def context(region: Region, total: int) -> tuple[int, int]:
    """First latent frame and number of frames that the model sees to make a region of a sound of `total` frames.

    All of a short sound; of a longer one a window as long as the model knows, with the region in its middle, from a
    multiple of 16 frames on, where a sync segment begins.
    """
    first, last = math.floor(region.start * LATENT_RATE), math.ceil(region.end * LATENT_RATE)
    settings = WindowSettings()
    if total <= settings.longest_whole:
        return 0, total
    length = min(total, max(settings.length, last - first + 2 * LEAST_CONTEXT))
    start = max(0, min((first + last - length) // 2, total - length))
    stop, start = start + length, start // SEGMENT_LATENTS * SEGMENT_LATENTS
    return start, stop - start


def region_mask(region: Region, seconds: float, first: int, frames: int) -> Tensor:
    """[1, 1, frames] from latent frame `first` of a sound of `seconds` on: 1 in the region, 0 outside, rising and
    falling over its fades."""
    middles = (first + torch.arange(frames) + 0.5) / LATENT_RATE
    mask = torch.ones(frames)
    for distance, fade in zip((middles - region.start, region.end - middles), region.fades(seconds), strict=True):
        mask = torch.minimum(mask, (distance / max(fade, 1e-9)).clamp(0, 1))
    if region.end >= seconds:
        mask[middles >= region.end] = 1  # the last frame may reach beyond the sound
    return mask[None, None]


def crossfade(old: Tensor, new: Tensor) -> Tensor:
    """From old [..., N] to new at a level that stays, however alike the two are.

    Like sounds (correlation 1) add in amplitude and need weights that sum to one; unlike ones (0) add in power and need
    squares that do. New sound next to held latents may be either, so their correlation is measured.
    """
    alike = F.cosine_similarity(old.flatten(), new.expand_as(old).flatten(), dim=0).clamp(0, 1)
    angle = (torch.arange(old.shape[-1], device=old.device) + 0.5) / old.shape[-1] * (math.pi / 2)
    return (angle.cos() * old + angle.sin() * new) / (1 + alike * (2 * angle).sin()).sqrt()


def splice(old: Tensor, new: Tensor, region: Region, seconds: float, sample_rate: int) -> Tensor:
    """`old` [B, channels, N] with `new` [B, 1 or channels, n], which begins at the region, in the region's place.

    Outside of the region every sample is the old one, bit for bit.
    """
    start, stop = samples(region.start, sample_rate), min(samples(region.end, sample_rate), old.shape[-1])
    fade_in, fade_out = (samples(fade, sample_rate) for fade in region.fades(seconds))
    part = new[..., : stop - start].to(old).expand(-1, old.shape[1], -1)
    part = F.pad(part, (0, stop - start - part.shape[-1])).clone()  # resampling may end a sample early
    before = old[..., start:stop]
    for batch in range(len(old)):
        if fade_in:
            part[batch, :, :fade_in] = crossfade(before[batch, :, :fade_in], part[batch, :, :fade_in])
        if fade_out:
            reversed_fade = crossfade(before[batch, :, -fade_out:].flip(-1), part[batch, :, -fade_out:].flip(-1))
            part[batch, :, -fade_out:] = reversed_fade.flip(-1)
    result = old.clone()
    result[..., start:stop] = part
    return result


def retake(
    waveform: Tensor, sample_rate: int, region: Region, codec: Codec, make: Make, *, whole: bool = False
) -> Tensor:
    """The sound [B, channels, N] with a region made anew, in its own rate, channels and type; the new part is mono.

    Args:
        whole: whether the model sees all of the sound, however long, in place of the context of the region.

    Raises:
        InputError: the region does not fit the sound.
    """
    seconds = waveform.shape[-1] / sample_rate
    region = region.within(seconds)
    total = math.ceil(seconds * LATENT_RATE)
    first, frames = (0, total) if whole else context(region, total)
    begin, stop = (samples(frame / LATENT_RATE, sample_rate) for frame in (first, first + frames))
    latents = codec.encode(at_48_khz(waveform[..., begin:stop], sample_rate))
    made = codec.decode(make(latents, region_mask(region, seconds, first, latents.shape[-1]), first))
    new = media.resample(made, SAMPLE_RATE, sample_rate)
    return splice(waveform, new[..., samples(region.start, sample_rate) - begin :], region, seconds, sample_rate)


def extend(
    waveform: Tensor, sample_rate: int, seconds: float, fade: float, codec: Codec, make: Make, *, whole: bool = False
) -> Tensor:
    """The sound [B, channels, N] going on for `seconds` more; up to its last `fade` seconds it stays as it is.

    `whole` as for `retake`.

    Raises:
        InputError: nothing to add, or a fade longer than the sound.
    """
    length = waveform.shape[-1] / sample_rate
    if not SHORTEST_REGION <= seconds < math.inf:
        raise InputError(
            f"The sound is to go on for {seconds:g} s.", f"Expected {SHORTEST_REGION:g} s or more.", "Change that."
        )
    if not 0 <= fade < length:
        raise InputError(f"The fade is {fade:g} s.", f"Expected 0 s to less than the {length:.3f} s of the sound.")
    longer = F.pad(waveform, (0, samples(seconds, sample_rate)))
    region = Region(length - fade, longer.shape[-1] / sample_rate, fade)
    return retake(longer, sample_rate, region, codec, make, whole=whole)


def vary(waveform: Tensor, sample_rate: int, codec: Codec, make: Make) -> Tensor:
    """All of the sound [B, channels, N] through the model once more: [B, 1, N'] at 48 kHz, as long as it was."""
    mono = at_48_khz(waveform, sample_rate)
    return codec.decode(make(codec.encode(mono), None, 0))[..., : mono.shape[-1]]


def at_48_khz(waveform: Tensor, sample_rate: int) -> Tensor:
    """[B, channels, N] as the codec takes it: [B, 1, N'] at 48 kHz, in float32."""
    return media.resample(media.to_mono(waveform.float()), sample_rate, SAMPLE_RATE)
