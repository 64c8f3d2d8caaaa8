"""The guided velocity of a whole clip at one noise level, from those of its windows and of the prompts alive in each.

Letters: B batch, C latent channels, L latent frames of the clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError
from .model import FoleyTransformer, PreparedConditions, different_samples
from .timing import ClipTiming
from .windows import Window, fuse, takes_whole, window_features

# So many windows' conditions are kept over the steps (released XXL model: about 25 MB each in bf16); of more, each is
# prepared again at every step, so that memory does not grow with the clip.
KEPT_WINDOWS = 16


@dataclass(frozen=True, eq=False)
class TimedText:
    """A prompt that counts at some times of the clip.

    Attributes:
        features: [1 or B, T, text_dim].
        weights: how much it counts at each latent frame [L], float32; those of all prompts sum to one.
    """

    features: Tensor
    weights: Tensor

    def is_alive(self, window: Window) -> bool:
        return bool((self.weights[window.frames] > 0).any())


Texts = Tensor | Sequence[TimedText]  # one prompt for the whole clip [1 or B, T, text_dim], or several by time


def guided(unconditional: Tensor, conditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: along the difference that prompt and picture make."""
    return unconditional + guidance_scale * (conditional - unconditional)


def prepare_generation(
    transformer: FoleyTransformer, noise: Tensor, texts: Sequence[Tensor], negative_texts: Sequence[Tensor],
    visual: Tensor | None, sync: Tensor | None,
) -> tuple[PreparedConditions, PreparedConditions]:
    """Conditions for the batch [each negative text, each text], and for its part of the texts.

    The two are the same without negative texts. The negative ones see no picture. Sounds of equal conditions share the
    work.

    Raises:
        InputError: features that do not fit the noise [B, C, L], or texts of different lengths.
    """
    batch, _, latent_frames = noise.shape
    counts = ClipTiming.from_latent_frames(latent_frames)
    empty_visual = transformer.empty_visual(counts.visual_tokens if visual is None else visual.shape[1])
    empty_sync = transformer.empty_sync(counts.sync_tokens if sync is None else sync.shape[1])
    _check_lengths(texts, negative_texts)

    def join(name: str, given: Sequence[Tensor], negative: Sequence[Tensor]) -> Tensor:
        return torch.cat([_batched(name, part, batch, noise) for part in (*negative, *given)])

    def of_picture(name: str, features: Tensor | None, empty: Tensor) -> Tensor:
        return join(name, [empty if features is None else features] * len(texts), [empty] * len(negative_texts))

    visuals, syncs = of_picture("visual", visual, empty_visual), of_picture("sync", sync, empty_sync)
    features = join("text", texts, negative_texts), visuals, syncs
    first, samples = different_samples(*features)
    prepared = transformer.prepare(*(tensor[first] for tensor in features), latent_frames)
    return prepared.of_samples(samples), prepared.of_samples(samples[-batch * len(texts) :])


def _check_lengths(texts: Sequence[Tensor], negative_texts: Sequence[Tensor]) -> None:
    lengths = [sorted({text.shape[1] for text in side}) for side in (texts, negative_texts)]
    if len({length for side in lengths for length in side}) > 1:
        prompt, negative = (" and ".join(map(str, side)) for side in lengths)
        raise InputError(
            f"The prompt has {prompt} text tokens and the negative prompt {negative}.",
            "Expected the same number: the model was used with both padded to the longer one.",
            "Encode the two together.",
        )


def _batched(name: str, features: Tensor, batch: int, like: Tensor) -> Tensor:
    if features.shape[0] not in (1, batch):
        raise InputError(
            f"The {name} features are a batch of {features.shape[0]}, the noise is a batch of {batch}.",
            "Expected one set of features, or one for each sound.",
        )
    return features.to(like).expand(batch, -1, -1)


Alive = tuple[list[Tensor], list[Tensor] | None]  # features of prompts, and their weights; None: one that counts alone


def _alive(texts: Texts | None, window: Window) -> Alive:
    """The prompts alive in a window, with weights at what it shows, beside those of the window."""
    if texts is None:
        return [], None
    if isinstance(texts, Tensor):
        return [texts], None
    alive = [text for text in texts if text.is_alive(window)]
    weights = [window.shown(text.weights).to(window.weights.device) for text in alive]
    return [text.features for text in alive], weights


def _mixed(velocities: Sequence[Tensor], weights: Sequence[Tensor] | None) -> Tensor:
    if weights is None:
        return velocities[0]
    return sum(weight.to(velocity) * velocity for velocity, weight in zip(velocities, weights, strict=True))


class ClipVelocity:
    """What a solver asks for at every step.

    Args:
        like: [B, C, L], in the dtype and on the device that the model computes with.
        texts, negative_texts: encoded together; without negative ones there is no guidance.
        visual, sync: [1 or B, V, visual_dim] and [1 or B, S, sync_dim]; None: the learned empty features, at the length
            the latents imply.
        windows: from `plan_windows`.
    """

    def __init__(
        self, transformer: FoleyTransformer, like: Tensor, texts: Texts, negative_texts: Texts | None,
        visual: Tensor | None, sync: Tensor | None, windows: Sequence[Window], guidance_scale: float,
    ):
        self.transformer, self.like, self.guidance_scale = transformer, like, guidance_scale
        self.visual, self.sync = visual, sync
        self.windows = [window.to(like.device) for window in windows]
        self._texts = [_alive(texts, window) for window in self.windows]
        self._negatives = [_alive(negative_texts, window) for window in self.windows]
        self._kept: dict[int, tuple[PreparedConditions, PreparedConditions]] = {}

    def __call__(self, latents: Tensor, timestep: Tensor, is_guided: bool) -> Tensor:
        """Velocity [B, C, L], float32, at the model's time (a scalar, 0 to 1000); unguided: of the prompts alone."""
        model_input = latents.to(self.like.dtype)
        return fuse(self.windows, (
            self._of_window(number, window.shown(model_input), timestep, is_guided)
            for number, window in enumerate(self.windows)
        ))

    def _of_window(self, number: int, latents: Tensor, timestep: Tensor, is_guided: bool) -> Tensor:
        texts, weights = self._texts[number]
        negatives, negative_weights = self._negatives[number] if is_guided else ([], None)
        both, conditional = self._conditions(number)
        copies = len(texts) + len(negatives)
        velocities = self.transformer.denoise(
            torch.cat([latents] * copies), timestep.expand(copies * len(latents)),
            both if is_guided else conditional,
        ).float().chunk(copies)
        velocity = _mixed(velocities[len(negatives) :], weights)
        if not is_guided:
            return velocity
        return guided(_mixed(velocities[: len(negatives)], negative_weights), velocity, self.guidance_scale)

    def _conditions(self, number: int) -> tuple[PreparedConditions, PreparedConditions]:
        if number in self._kept:
            return self._kept[number]
        window = self.windows[number]
        visual, sync = self.visual, self.sync
        frames = window.stop - window.start
        if visual is not None and (len(self.windows) > 1 or not takes_whole(sync.shape[1], frames)):
            visual, sync = window_features(visual, sync, window)
        prepared = prepare_generation(
            self.transformer, window.shown(self.like), self._texts[number][0], self._negatives[number][0], visual, sync,
        )
        if len(self.windows) <= KEPT_WINDOWS:
            self._kept[number] = prepared
        return prepared
