"""Which frames of a clip the encoders see, by the clock of the released model (MODEL.md, Video).

One rule serves files and image batches: frames are walked in order with their time p, and while p has reached the
clock the frame is taken and the clock moves on by 1/rate. The clock grows by repeated float64 addition; at exact ties
its rounding decides, so k/rate would choose other frames.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch

from ..errors import InputError
from ..timing import MAX_SECONDS, SYNC_RATE, VISUAL_RATE

STOP = None  # what FramePicker answers for the first frame past the end


@dataclass(frozen=True)
class SelectedFrame:
    """A frame that at least one encoder sees.

    Attributes:
        time: seconds from the start of the clip.
        image: uint8 (3, H, W), RGB, upright; may be a view with channels last in memory.
        visual_repeats: how many times SigLIP2 sees it in a row (0: not at all).
        sync_repeats: how many times Synchformer sees it in a row.
    """

    time: float
    image: torch.Tensor
    visual_repeats: int
    sync_repeats: int


class FrameClock:
    """Ticks `fps` times a second from 0.0. InputError for a rate that is not a positive number."""

    def __init__(self, fps: float):
        self._period = 1.0 / check_rate(fps)
        self._next = 0.0

    def ticks(self, time: float) -> int:
        """How many times the frame at `time` (finite seconds) is taken; the clock moves past it."""
        count = 0
        while time >= self._next:
            self._next += self._period
            count += 1
        return count


class FramePicker:
    """Runs one clock per rate over the frames of a clip.

    Args:
        rates: frames per second wanted.
        max_seconds: the first frame later than this ends the clip (None: no limit).
        duration: the first frame at or past this ends it too: a trimmed clip is half open.
    """

    def __init__(self, rates: Iterable[float], max_seconds: float | None = MAX_SECONDS, duration: float | None = None):
        self._clocks = [FrameClock(rate) for rate in rates]
        self._latest = math.inf if max_seconds is None else max_seconds
        self._end = math.inf if duration is None else duration

    def repeats(self, time: float) -> list[int] | None:
        """How often the frame at `time` is taken at each rate, or STOP. Frames before 0 are never taken."""
        if time > self._latest or time >= self._end:
            return STOP
        if time < 0:
            return [0] * len(self._clocks)
        return [clock.ticks(time) for clock in self._clocks]


def check_rate(fps: float) -> float:
    """`fps` as a float; InputError unless it is a positive finite number."""
    rate = float(fps)
    if not (math.isfinite(rate) and rate > 0):
        raise InputError(
            f"The frame rate is {fps}.",
            "It must be a positive number of frames per second.",
            "Give the rate the pictures were made for, for example 24.",
        )
    return rate


def select_frames(frame_times: Iterable[float], fps: float, max_seconds: float | None = MAX_SECONDS) -> list[int]:
    """Indices of the frames seen at `fps`, in order, repeated where a late frame stands for several ticks.

    Args:
        frame_times: seconds of each frame, in the order they are decoded.
        max_seconds: no frame after this is read (None: no limit).
    """
    picker = FramePicker((fps,), max_seconds)
    chosen: list[int] = []
    for index, time in enumerate(frame_times):
        repeats = picker.repeats(time)
        if repeats is STOP:
            break
        chosen += [index] * repeats[0]
    return chosen


def frames_from_images(
    images: torch.Tensor, fps: float | Fraction, max_seconds: float | None = MAX_SECONDS
) -> Iterator[SelectedFrame]:
    """The frames that a video of these pictures at `fps` would give, without coding one.

    Args:
        images: float [N, H, W, 3 or 4] in 0..1; alpha is dropped, as it is from files.
        fps: frames per second; InputError unless positive.
    """
    check_rate(fps)
    if images.ndim != 4 or images.shape[-1] not in (3, 4) or 0 in images.shape:
        raise InputError(
            f"The pictures come as a tensor of shape {tuple(images.shape)}.",
            "At least one picture laid out (N, H, W, 3) or (N, H, W, 4) is needed.",
            "Connect an IMAGE batch.",
        )
    return _walk_images(images, fps, max_seconds)


def _walk_images(images: torch.Tensor, fps: float | Fraction, max_seconds: float | None) -> Iterator[SelectedFrame]:
    picker = FramePicker((VISUAL_RATE, SYNC_RATE), max_seconds)
    for index, image in enumerate(images):
        time = float(index / fps)
        repeats = picker.repeats(time)
        if repeats is STOP:
            return
        if any(repeats):
            yield SelectedFrame(time, _levels(image), *repeats)


def _levels(image: torch.Tensor) -> torch.Tensor:
    # Rounded, not truncated: k/255 in float32 times 255 can fall just under k.
    levels = image[..., :3].detach().float().cpu().nan_to_num().clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).permute(2, 0, 1)
