"""What the timeline keeps of a picture, gathered frame by frame: a strip of small ones, and how much each differs."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

STRIP_HEIGHT = 108
_LOOK = (48, 64)  # height and width at which frames are compared: noise of the camera is averaged away
_SPARE = 4  # small pictures kept for each that is shown, as the length may not be known beforehand


@dataclass
class Watched:
    """Of a clip's picture.

    Attributes:
        pictures: (seconds, uint8 [h, w, 3]) in order, at most some dozens however long the clip is.
        times, motion: seconds of each frame but the first, and its mean absolute difference from the one before, 0..1.
        seconds: when the last frame ends, as far as the frames tell.
    """

    pictures: list[tuple[float, np.ndarray]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    seconds: float = 0.0


def watch(frames: Iterable, strip_width: int) -> Watched:
    """Walks the frames (`media.SelectedFrame`) once, one in memory at a time.

    Args:
        strip_width: pixels that the strip of small pictures will fill.
    """
    watched, before, last, spacing = Watched(), None, 0.0, 0.0
    for frame in frames:
        look = _small(frame.image, _LOOK)
        if before is not None:
            watched.times.append(frame.time)
            watched.motion.append(float((look - before).abs().mean()) / 255)
        if not watched.pictures or frame.time >= watched.pictures[-1][0] + spacing:
            watched.pictures.append((frame.time, _thumbnail(frame.image)))
            spacing = _thinned(watched.pictures, strip_width, spacing)
        watched.seconds, before, last = 2 * frame.time - last, look, frame.time
    return watched


def _small(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Grey [1, h, w], float, of uint8 [3, H, W]."""
    # Large pictures are thinned out first: the mean of every third pixel is as good, and a ninth of the work.
    step = max(1, min(image.shape[1] // (4 * size[0]), image.shape[2] // (4 * size[1])))
    grey = image[:, ::step, ::step].float().mean(dim=0, keepdim=True)
    return F.interpolate(grey[None], size, mode="area")[0]


def _thumbnail(image: torch.Tensor) -> np.ndarray:
    height, width = image.shape[1:]
    # At twice the size that is shown at most, so that a crop stays sharp.
    size = max(1, round(width * STRIP_HEIGHT / height)), STRIP_HEIGHT
    return np.asarray(Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).resize(size, Image.Resampling.LANCZOS))


def _thinned(pictures: list, strip_width: int, spacing: float) -> float:
    """Drops every second picture where there are far too many, and says how far apart the next must be."""
    most = _SPARE * max(1, strip_width // pictures[0][1].shape[1])
    if len(pictures) > most:
        del pictures[1::2]
        spacing = (pictures[-1][0] - pictures[0][0]) / (len(pictures) - 1) * 0.999
    return spacing
