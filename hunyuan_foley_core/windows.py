"""Sound of any length: overlapping windows of a length the model knows, fused at every step.

A window starts a multiple of 16 latent frames after its scene does, so that it takes sync segments whole, and the model
counts positions from the window's start, as in training. Where windows overlap their velocities are added with weights
that sum to one, as in MultiDiffusion (arXiv 2302.08113). No window reaches over a cut. The last one of several would be up
to 15 frames shorter than the others, and sync tokens, which are stretched to a window, would stand elsewhere in it than the
model knows: it is shown as long as the others.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .errors import CheckpointError, InputError
from .timing import LATENT_RATE, SEGMENT_HOP, SEGMENT_TOKENS, SYNC_RATE, VISUAL_RATE, ClipTiming, latent_frames

SEGMENT_LATENTS = SEGMENT_HOP * LATENT_RATE // SYNC_RATE  # latent frames from one sync segment's start to the next one's
PICTURE_LATENTS = LATENT_RATE // SYNC_RATE  # latent frames of a picture at 25 a second; a scene has whole pictures

LEAST_SECONDS = 1.0  # of a window, so that the last one, up to a segment shorter, still has a whole sync segment
# The features of a video may end a little before its sound, where a cut was rounded; half a second is something else.
_MISSING_LATENTS = LATENT_RATE // 2
CONFIG_KEY = "windows"  # in the `config` of a weight file's metadata, an object of these, in seconds
_CONFIG_FIELDS = ("length", "overlap", "longest_whole")


@dataclass(frozen=True)
class WindowSettings:
    """Lengths in latent frames (50 a second); a window is at least a second.

    Attributes:
        length: of a window; the released model was trained on 8 s.
        overlap: the least that neighbours share, and over how much one hands over to the next.
        longest_whole: a scene up to this long is one window; 8 to 10 s are best in one piece.
    """

    length: int = 400
    overlap: int = 96
    longest_whole: int = 500

    @classmethod
    def from_seconds(cls, length: float, overlap: float) -> "WindowSettings":
        """Windows for everything longer than one. InputError for lengths that leave no room to go on."""
        settings = cls(latent_frames(length), latent_frames(overlap), latent_frames(length))
        shortest = LEAST_SECONDS * LATENT_RATE
        if settings.overlap < 1 or settings.length < max(shortest, settings.overlap + SEGMENT_LATENTS):
            raise InputError(
                f"Windows of {length:g} s that overlap by {overlap:g} s cannot be laid out.",
                f"Expected windows of at least {LEAST_SECONDS:g} s, and an overlap above 0 and at least "
                f"{SEGMENT_LATENTS / LATENT_RATE:g} s shorter than that.",
                "8 and 1.92 are those of the released model.",
            )
        return settings

    def changed(self, length: float | None, overlap: float | None) -> "WindowSettings":
        """The same where None is given, else in seconds; with another length everything longer than it is made in windows.

        InputError as for `from_seconds`.
        """
        if length is None and overlap is None:
            return self
        own = self.length / LATENT_RATE, self.overlap / LATENT_RATE
        settings = self.from_seconds(*(mine if given is None else given for given, mine in zip((length, overlap), own)))
        return settings if length is not None else replace(settings, longest_whole=self.longest_whole)

    @classmethod
    def of_weights(cls, config: Mapping[str, Any], name: str) -> "WindowSettings":
        """What a weight file says of the lengths that it knows, or the released model's where it says nothing.

        Args:
            config: of the file's metadata, see `checkpoint.read_state_dict`; name: of the file, for messages.

        Raises:
            CheckpointError: lengths of which no windows can be laid out.
        """
        if CONFIG_KEY not in config:
            return cls()
        try:
            length, overlap, longest_whole = (float(config[CONFIG_KEY][field]) for field in _CONFIG_FIELDS)
            settings = cls.from_seconds(length, overlap)
            return replace(settings, longest_whole=max(settings.length, latent_frames(longest_whole)))
        except (InputError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"The metadata of {name} say of its windows: {config[CONFIG_KEY]!r}.",
                f"Expected {', '.join(_CONFIG_FIELDS)} in seconds, of which windows can be laid out, or nothing.",
                "Write the file again without them, or take the one it was made from.",
            ) from error


@dataclass(frozen=True, eq=False)
class Window:
    """A part of the clip that the model sees at once.

    Attributes:
        start, stop: latent frames of the clip.
        visual, sync: its first tokens among the clip's features.
        weights: of its velocity at each of its frames [stop - start], float32; those of all windows sum to one.
        beyond: how many frames the model is shown behind its end; what it makes of them is dropped.
    """

    start: int
    stop: int
    visual: int
    sync: int
    weights: Tensor
    beyond: int = 0

    def to(self, device: torch.device | str) -> "Window":
        """The window with its weights on the device, so that no step brings them there."""
        return replace(self, weights=self.weights.to(device))

    @property
    def frames(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def timing(self) -> ClipTiming:
        """Of what the model is shown."""
        return ClipTiming.from_latent_frames(self.stop - self.start + self.beyond)

    @property
    def own_timing(self) -> ClipTiming:
        """Of what it makes."""
        return ClipTiming.from_latent_frames(self.stop - self.start)

    def shown(self, x: Tensor) -> Tensor:
        """Its part of x [..., L], and beyond its end that goes back again: [..., stop - start + beyond]."""
        part = x[..., self.frames]
        return torch.cat((part, part[..., -1 - self.beyond : -1].flip(-1)), dim=-1) if self.beyond else part


def first_picture(latent_frame: int, tokens: int, count: int) -> int:
    """The visual token to begin at for `count` of `tokens`: the nearest picture, 1/16 s away at most, or one earlier."""
    return max(0, min(round(latent_frame * VISUAL_RATE / LATENT_RATE), tokens - count))


def plan_windows(
    latent_frames: int, settings: WindowSettings = WindowSettings(), cuts: Sequence[int] = ()
) -> tuple[Window, ...]:
    """The windows of a clip, in order.

    Args:
        latent_frames: L of the clip.
        cuts: latent frames at which scenes begin, ascending, without 0. Each scene has features of its own, all
            scenes' in a row: as many tokens as `ClipTiming` counts for it. A sound may end before the last of them.
    """
    edges, visual, sync, windows = [0, *(cut for cut in cuts if cut < latent_frames), latent_frames], 0, 0, []
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        timing = ClipTiming.from_latent_frames(stop - start)
        windows += _scene_windows(start, timing, visual, sync, settings)
        visual, sync = visual + timing.visual_tokens, sync + timing.sync_tokens
    return tuple(windows)


def _scene_windows(first: int, scene: ClipTiming, visual: int, sync: int, settings: WindowSettings) -> list[Window]:
    windows = []
    spans = _spans(scene.latent_frames, settings)
    for (start, stop), weights in zip(spans, _hand_overs(spans, settings.overlap), strict=True):
        beyond = settings.length - (stop - start) if len(spans) > 1 else 0
        count = ClipTiming.from_latent_frames(stop - start).visual_tokens
        windows.append(Window(
            first + start, first + stop, visual + first_picture(start, scene.visual_tokens, count),
            sync + start // SEGMENT_LATENTS * SEGMENT_TOKENS, weights, beyond,
        ))
    return windows


def _spans(frames: int, settings: WindowSettings) -> list[tuple[int, int]]:
    """(start, stop) of the windows of a scene: as few as will do, evenly spread, the last flush with the end."""
    if frames <= settings.longest_whole:
        return [(0, frames)]
    hop = (settings.length - settings.overlap) // SEGMENT_LATENTS
    last = math.ceil((frames - settings.length) / SEGMENT_LATENTS)
    hops = math.ceil(last / hop)
    starts = [SEGMENT_LATENTS * (last * number // hops) for number in range(hops + 1)]
    return [(start, start + settings.length) for start in starts[:-1]] + [(starts[-1], frames)]


def _hand_overs(spans: list[tuple[int, int]], longest: int) -> list[Tensor]:
    """Weights of each span: one hands over to the next on a raised cosine around the middle of their overlap, so that
    most frames are one window's alone, well away from its ends."""
    pairs = list(zip(spans[:-1], spans[1:], strict=True))
    length = min([longest] + [before[1] - after[0] for before, after in pairs])
    centres = [(before[1] + after[0]) / 2 for before, after in pairs]

    def passed(centre: float, start: int, stop: int) -> Tensor:
        """How far a hand-over has come at each frame, 0 to 1."""
        done = (torch.arange(start, stop, dtype=torch.float64) + 0.5 - centre) / length + 0.5
        return (1 - torch.cos(math.pi * done.clamp(0, 1))) / 2

    weights = []
    for number, span in enumerate(spans):
        entered = passed(centres[number - 1], *span) if number else torch.ones(span[1] - span[0], dtype=torch.float64)
        left = passed(centres[number], *span) if number < len(centres) else torch.zeros_like(entered)
        weights.append((entered - left).float())
    return weights


def window_at(start: int, frames: int, visual_tokens: int) -> Window:
    """One window alone, in a clip of one scene with so many visual tokens; `start` is a multiple of 16 latent frames."""
    count = ClipTiming.from_latent_frames(frames).visual_tokens
    sync = start // SEGMENT_LATENTS * SEGMENT_TOKENS
    return Window(start, start + frames, first_picture(start, visual_tokens, count), sync, torch.ones(frames))


def window_features(visual: Tensor, sync: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """What a window sees: of visual [B, V, D] and sync [B, S, D], as many tokens as a clip of its length has.

    Beyond its end the last picture and the last sync segment are held.

    Raises:
        InputError: the features end well before the window does.
    """
    own, shown = window.own_timing, window.timing
    _check_reach(sync.shape[1], window)
    first = max(0, min(window.visual, visual.shape[1] - own.visual_tokens))
    pictures, segments = visual[:, first : first + own.visual_tokens], sync[:, window.sync : window.sync + own.sync_tokens]
    return (
        _held(pictures, shown.visual_tokens - own.visual_tokens, 1),
        _held(segments, shown.sync_tokens - own.sync_tokens, SEGMENT_TOKENS),
    )


def _held(features: Tensor, more: int, unit: int) -> Tensor:
    """[B, N + more, D] of [B, N, D]: the last `unit` tokens again and again."""
    return torch.cat((features, *[features[:, -unit:]] * (more // unit)), dim=1) if more else features


def takes_whole(sync_tokens: int, latent_frames: int) -> bool:
    """Whether sound of one window takes a picture with so many tokens as it is: about as long, half a second more or less.

    So the released model has it, whose counts differ a little. Of a longer picture a window takes the beginning, and a
    shorter one is refused, both by `window_features`.
    """
    spare = sync_tokens - ClipTiming.from_latent_frames(latent_frames).sync_tokens
    return abs(spare) // SEGMENT_TOKENS * SEGMENT_LATENTS <= _MISSING_LATENTS


def _check_reach(tokens: int, window: Window) -> None:
    missing = (window.sync + window.own_timing.sync_tokens - tokens) // SEGMENT_TOKENS * SEGMENT_LATENTS
    if missing > _MISSING_LATENTS:
        raise InputError(
            f"The picture ends about {missing / LATENT_RATE:.1f} s before {window.stop / LATENT_RATE:.1f} s of the sound.",
            "Expected a picture as long as the sound, or none.",
            "Take the length of the sound from the video, or let more of the video be watched.",
        )


def fuse(windows: Sequence[Window], velocities: Iterable[Tensor]) -> Tensor:
    """Velocity [..., L] of the clip from those of its windows [..., l + beyond], in their order; each is let go once it is
    added."""
    if len(windows) == 1:
        return next(iter(velocities))
    fused = None
    for window, velocity in zip(windows, velocities, strict=True):
        if fused is None:
            fused = velocity.new_zeros(*velocity.shape[:-1], windows[-1].stop)
        fused[..., window.frames] += window.weights.to(velocity) * velocity[..., : len(window.weights)]
    return fused
