"""From pictures and words to the features that condition the transformer.

Pictures come as a stream and are never held whole: each is resized when it arrives, encoded, and dropped.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .encoders.clap import ClapTextEncoder
from .encoders.preprocess import synchformer_pixels
from .encoders.siglip2 import SigLIP2VisionTower
from .encoders.synchformer import SynchformerVisualTower
from .errors import InputError, MediaError, NoPictureError
from .timing import SEGMENT_FRAMES, SEGMENT_HOP, SYNC_RATE, TEXT_TOKENS, ClipTiming, seconds_of_sync_frames
from .windows import PICTURE_LATENTS

BANDWIDTH_TAG = "high-quality"
DEFAULT_NEGATIVE_PROMPT = "noisy, harsh"

FramesBetween = Callable[[float, float | None], Iterable["Frame"]]  # (start, duration) in seconds -> the chosen frames
ProgressCallback = Callable[[float], None]  # seconds of video encoded so far; raising cancels


class Frame(Protocol):
    """A picture chosen at 8 fps, 25 fps or both; see `media.SelectedFrame`."""

    image: Tensor  # uint8 [3, H, W]
    visual_repeats: int
    sync_repeats: int


@dataclass(frozen=True)
class VideoFeatures:
    """What the transformer sees of a video.

    Attributes:
        visual: SigLIP2 features [1, V, visual_dim], float32.
        sync: Synchformer features [1, S, sync_dim], float32.
        seconds: true duration of the chosen frames, before a short clip is held up to one segment.
        cuts: latent frames at which scenes begin, without 0. Each scene is encoded as a clip of its own; the features
            of all are in a row, as many tokens of each as `ClipTiming` counts for it.
    """

    visual: Tensor
    sync: Tensor
    seconds: float
    cuts: tuple[int, ...] = ()


class VisualStream:
    """Turns frames at 8 fps into SigLIP2 features; a repeated frame is encoded once.

    One frame at a time: 15 s of 1080p peak at 266 MB above the models, with two at a time at 300 MB (scripts/bench.py).
    """

    def __init__(self, siglip2: SigLIP2VisionTower, **where):
        self.siglip2, self.where, self.features = siglip2, where, []

    def push(self, image: Tensor, repeats: int) -> None:
        if repeats:
            self.features.append(self.siglip2.encode_frames(image[None], **self.where).expand(repeats, -1))

    def finish(self) -> Tensor:
        return torch.cat(self.features)[None]


class SyncStream:
    """Collects frames at 25 fps into segments of 16, hop 8, and each of those into Synchformer features.

    One segment at a time: on a CPU a second one takes some 60 MB more and no less time.
    """

    def __init__(self, synchformer: SynchformerVisualTower, **where):
        self.synchformer, self.where = synchformer, where
        self.pending, self.features, self.frames = [], [], 0

    def push(self, image: Tensor, repeats: int) -> None:
        if not repeats:
            return
        pixels = synchformer_pixels(image[None], self.synchformer.config.image_size)[0]
        for _ in range(repeats):
            self.pending.append(pixels)
            self.frames += 1
            if len(self.pending) == SEGMENT_FRAMES:
                self.encode()
                self.pending = self.pending[SEGMENT_HOP:]

    def encode(self) -> None:
        self.features.append(self.synchformer.encode_frames(torch.stack(self.pending), **self.where))

    def finish(self) -> Tensor:
        if not self.features:  # a clip shorter than a segment, which the encoder holds at its last frame
            self.encode()
        return torch.cat(self.features)[None]


@torch.inference_mode()
def encode_video(
    frames: Iterable[Frame],
    siglip2: SigLIP2VisionTower,
    synchformer: SynchformerVisualTower,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    callback: ProgressCallback | None = None,
) -> VideoFeatures:
    """Encodes a stream of chosen frames.

    Args:
        frames: in order of time, from `media.stream_frames` or `media.frames_from_images`.
        device, dtype: where and in what to compute; None: as the encoders' parameters.
        callback: called with the seconds encoded so far; an exception it raises ends the run.

    Raises:
        MediaError: no frame came.
    """
    visual, sync = VisualStream(siglip2, device=device, dtype=dtype), SyncStream(synchformer, device=device, dtype=dtype)
    for frame in frames:
        visual.push(frame.image, frame.visual_repeats)
        sync.push(frame.image, frame.sync_repeats)
        if callback is not None:
            callback(seconds_of_sync_frames(sync.frames))
    if not sync.frames:
        raise NoPictureError("No picture came out of the video.", "Expected at least one.", "Check the file and its trim.")
    return VideoFeatures(visual.finish(), sync.finish(), seconds_of_sync_frames(sync.frames))


@dataclass(frozen=True)
class _Seen:
    image: Tensor
    visual_repeats: int
    sync_repeats: int


def filled(frames: Iterable[Frame], pictures: int) -> Iterator[Frame]:
    """The frames of a scene that has so many pictures at 25 a second: the last one held, or what is too much left out."""
    visual, sync = ClipTiming.from_latent_frames(PICTURE_LATENTS * pictures).visual_tokens, pictures
    frame = None
    for frame in frames:
        seen = _Seen(frame.image, min(frame.visual_repeats, visual), min(frame.sync_repeats, sync))
        visual, sync = visual - seen.visual_repeats, sync - seen.sync_repeats
        yield seen
    if frame is not None:
        yield _Seen(frame.image, visual, sync)


def latent_cut(seconds: float) -> int:
    """The latent frame at which a scene begins: a cut is rounded to a picture at 25 a second."""
    return PICTURE_LATENTS * round(seconds * SYNC_RATE)


def encode_scenes(
    frames_between: FramesBetween,
    cuts: Sequence[float],
    siglip2: SigLIP2VisionTower,
    synchformer: SynchformerVisualTower,
    *,
    callback: ProgressCallback | None = None,
    **where,
) -> VideoFeatures:
    """Encodes each scene of a video as a clip of its own, beginning with its first picture.

    Args:
        frames_between: gives the frames chosen from a part of the video, as `media.stream_frames` does; without a
            duration up to the end.
        cuts: seconds at which scenes begin, ascending, without 0; each at least `scenes.SHORTEST` after the one before.
        callback, where: as in `encode_video`.

    Raises:
        MediaError: no frame came. InputError: a cut behind the end of the video.
    """
    starts = [0.0, *cuts]
    places = [latent_cut(cut) // PICTURE_LATENTS for cut in starts]  # in pictures at 25 a second
    parts = []
    for number, (start, place) in enumerate(zip(starts, places, strict=True)):
        if number + 1 < len(starts):
            frames = filled(frames_between(start, starts[number + 1] - start), places[number + 1] - place)
        else:
            frames = frames_between(start, None)
        advance = callback and (lambda done, place=place: callback(seconds_of_sync_frames(place) + done))
        try:
            parts.append(encode_video(frames, siglip2, synchformer, callback=advance, **where))
        except MediaError as error:
            if not parts:
                raise
            raise InputError(
                f"No picture comes after the cut at {start:.2f} s.", "Expected cuts within the video.",
                "Leave this one out, or read more of the video.",
            ) from error
    visual, sync = (torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("visual", "sync"))
    return VideoFeatures(
        visual, sync, seconds_of_sync_frames(places[-1]) + parts[-1].seconds,
        tuple(PICTURE_LATENTS * place for place in places[1:]),
    )


def with_bandwidth_tag(prompt: str) -> str:
    """The prompt ending in the tag that captions of wide-band recordings carried in training."""
    words = prompt.rstrip().rstrip(".,;")
    if not words:
        return BANDWIDTH_TAG
    return prompt if words.endswith(BANDWIDTH_TAG) else f"{words}, {BANDWIDTH_TAG}"


@torch.inference_mode()
def encode_text_pair(
    clap: ClapTextEncoder,
    prompt: str,
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT,
    *,
    tag: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Features of prompt and negative prompt, tokenized together so that both are padded to the longer one.

    Args:
        tag: whether the prompt gets the bandwidth tag; the negative prompt never does.

    Returns:
        text and negative_text, each [1, T, text_dim] with T at most 77, float32.

    Raises:
        InputError: a text longer than the encoder takes, or an encoder without its tokenizer.
    """
    (text,), negative_text = encode_texts(clap, [prompt], negative_prompt, tag=tag, device=device, dtype=dtype)
    return text, negative_text


@torch.inference_mode()
def encode_texts(
    clap: ClapTextEncoder, prompts: Sequence[str], negative_prompt: str = DEFAULT_NEGATIVE_PROMPT, *, tag: bool = True, **where
) -> tuple[list[Tensor], Tensor]:
    """The same of several prompts, all padded to the longest of all."""
    texts = [*(with_bandwidth_tag(prompt) if tag else prompt for prompt in prompts), negative_prompt]
    features = clap.encode_text(texts, **where)[:, :TEXT_TOKENS]
    *texts, negative_text = features.split(1)
    return texts, negative_text
