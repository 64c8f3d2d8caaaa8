"""From pictures and words to the features that condition the transformer.

Pictures come as a stream and are never held whole: each is resized when it arrives, encoded, and dropped.
"""

from dataclasses import dataclass
from typing import Callable, Iterable, Protocol

import torch
from torch import Tensor

from .encoders.clap import ClapTextEncoder
from .encoders.preprocess import synchformer_pixels
from .encoders.siglip2 import SigLIP2VisionTower
from .encoders.synchformer import SynchformerVisualTower
from .errors import MediaError
from .timing import SEGMENT_FRAMES, SEGMENT_HOP, TEXT_TOKENS, seconds_of_sync_frames

BANDWIDTH_TAG = "high-quality"
DEFAULT_NEGATIVE_PROMPT = "noisy, harsh"

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
        raise MediaError("No picture came out of the video.", "Expected at least one.", "Check the file and its trim.")
    return VideoFeatures(visual.finish(), sync.finish(), seconds_of_sync_frames(sync.frames))


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
    texts = [with_bandwidth_tag(prompt) if tag else prompt, negative_prompt]
    features = clap.encode_text(texts, device=device, dtype=dtype)[:, :TEXT_TOKENS]
    return features[:1], features[1:]
