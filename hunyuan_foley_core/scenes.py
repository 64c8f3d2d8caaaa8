"""Where a video cuts from one scene to the next, found by PySceneDetect or told; and the sound of scenes, joined."""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from .errors import InputError, MediaError, MissingPackageError
from .timed_prompts import clock, time_of
from .timing import LATENT_HOP, samples

SHORTEST = 1.0  # seconds of a scene; a shorter one joins the one before it, the first the one after it
THRESHOLD = 3.0  # of PySceneDetect's adaptive detector, its own default

CROSSFADE = samples(0.005)  # samples behind a cut over which the last scene hands over to the next
_SEPARATORS = re.compile(r"[\s,;]+")


def parse_cuts(text: str) -> list[float]:
    """The times of a text such as `0:03.2, 0:11.5`, in seconds, ascending; separated by commas, spaces or lines.

    Raises:
        InputError: something that is no time.
    """
    times = []
    for place, word in enumerate(filter(None, _SEPARATORS.split(text)), 1):
        time = time_of(word)
        if time is None:
            raise InputError(
                f"Number {place} of the cuts is `{word}`.", "Expected a time as m:ss or h:mm:ss, such as 0:03.2.",
                "Separate several with commas.",
            )
        times.append(time)
    return sorted(times)


def detect_cuts(video: str | Path, threshold: float = THRESHOLD) -> list[float]:
    """Seconds at which the scenes of a video file begin, without the first.

    Args:
        threshold: how much more than its surroundings a picture must change; lower finds more.

    Raises:
        FoleyError: PySceneDetect is not installed. MediaError: it cannot read the file.
    """
    try:
        import scenedetect
    except ImportError as error:
        raise MissingPackageError(
            f"Cuts are found by PySceneDetect, which cannot be used here ({error}).", "",
            "Install it with `pip install scenedetect-headless`, or give the times of the cuts.",
        ) from error
    try:
        scenes = scenedetect.detect(str(video), scenedetect.AdaptiveDetector(adaptive_threshold=threshold))
    except (OSError, RuntimeError, scenedetect.VideoOpenFailure) as error:
        raise MediaError(
            f"PySceneDetect cannot read {Path(video).name} ({error}).", "Expected a video file.",
            "Give the times of the cuts, or convert the video to H.264.",
        ) from error
    # Before 0.7 a time had no property of that name.
    return [start.seconds if hasattr(start, "seconds") else start.get_seconds() for start, _ in scenes[1:]]


def kept_cuts(cuts: Sequence[float], seconds: float | None, limit: float | None = None) -> list[float]:
    """The cuts that leave no scene shorter than a second.

    Args:
        seconds: length of the video; None: not known.
        limit: seconds after which it is not watched; cuts from there on are left out.

    Raises:
        InputError: a cut behind the end of the video.
    """
    kept: list[float] = []
    end = min((end for end in (seconds, limit) if end is not None), default=math.inf)
    for cut in sorted(cuts):
        if seconds is not None and cut >= seconds:
            raise InputError(
                f"There is a cut at {clock(cut)}, and the video ends at {clock(seconds)}.",
                "Expected cuts within the video.", "Leave it out, or correct its time.",
            )
        if cut < end and cut - (kept[-1] if kept else 0.0) >= SHORTEST:
            kept.append(cut)
    if kept and end - kept[-1] < SHORTEST:
        kept.pop()
    return kept


def decode_scenes(decode: Callable[[Tensor], Tensor], latents: Tensor, cuts: Sequence[int]) -> Tensor:
    """The waveform [B, 1, L * 960] of latents [B, C, L], each scene decoded by itself.

    A decoder's convolutions reach far: over a cut, in one go, one scene would be heard in the other. Here the last one is
    held for a frame, which fades out while the next begins.

    Args:
        decode: latents -> waveform [B, 1, N].
        cuts: latent frames at which scenes begin, ascending, without 0.
    """
    frames = latents.shape[-1]
    edges = [0, *(cut for cut in cuts if cut < frames), frames]
    if len(edges) == 2:
        return decode(latents)
    parts, tail = [], None
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        scene = latents[..., start:stop]
        sound = decode(scene if stop == frames else torch.cat((scene, scene[..., -1:]), dim=-1))
        length = (stop - start) * LATENT_HOP
        part, following = sound[..., :length].clone(), sound[..., length : length + CROSSFADE]
        if tail is not None:
            come = (torch.arange(CROSSFADE, device=part.device) + 0.5) / CROSSFADE
            part[..., :CROSSFADE] = come * part[..., :CROSSFADE] + (1 - come) * tail
        parts.append(part)
        tail = following
    return torch.cat(parts, dim=-1)
