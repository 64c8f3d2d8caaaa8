"""What does a hit sound like it is made of? A classifier that has heard true sounds only, to judge made ones."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from ..onsets import band_amplitudes
from ..timing import SAMPLE_RATE, samples
from .materials import MATERIALS
from .world import Clip

# Seconds after the hit that are looked at apart: the contact, what rings, and what still rings.
_SPANS = ((0.0, 0.02), (0.02, 0.04), (0.04, 0.08), (0.08, 0.12))
_BINS = 8192
_BANDS = 32
_QUIETEST = 1e-4  # amplitude in a band below which the room's noise decides
_DECAY = 1e-3  # of the weights
_STEPS = 200


class MaterialClassifier:
    """Logistic regression on the log spectra after a hit.

    Args:
        clips: to learn from; each of their hits is an example.
    """

    def __init__(self, clips: Iterable[Clip]):
        self.materials = tuple(MATERIALS)
        heard, names = [], []
        for clip in clips:
            heard += _features(clip.waveform.numpy(), [event.time for event in clip.events])
            names += [self.materials.index(event.material) for event in clip.events]
        if not names:
            raise InputError("The clips to learn from hold no hit.", "Some are needed.", "Take more clips.")
        features = np.stack(heard)
        self._mean, self._scale = features.mean(axis=0), features.std(axis=0) + 1e-6
        self._weights = _fit(self._normal(features), torch.tensor(names), len(self.materials))

    def __call__(self, waveform: np.ndarray, times: Sequence[float]) -> list[str]:
        """The material heard at each of `times` (seconds) in a waveform [N] at 48 kHz."""
        if not len(times):
            return []
        scores = self._normal(np.stack(_features(waveform, times))) @ self._weights
        return [self.materials[index] for index in scores.argmax(dim=1)]

    def accuracy(self, clips: Iterable[Clip]) -> float:
        """Share of the true hits of `clips` that are heard right."""
        right = [
            name == event.material
            for clip in clips
            for name, event in zip(self(clip.waveform.numpy(), [e.time for e in clip.events]), clip.events, strict=True)
        ]
        return float(np.mean(right)) if right else float("nan")

    def _normal(self, features: np.ndarray) -> torch.Tensor:
        """[hits, features + 1], of mean 0 and deviation 1, with a constant at the end."""
        normal = torch.from_numpy((features - self._mean) / self._scale).float()
        return F.pad(normal, (0, 1), value=1.0)


def _fit(features: torch.Tensor, names: torch.Tensor, classes: int) -> torch.Tensor:
    """Weights [features, classes] of least cross-entropy."""
    weights = torch.zeros(features.shape[1], classes, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(features @ weights, names) + _DECAY * weights.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weights.detach()


def _features(waveform: np.ndarray, times: Sequence[float]) -> list[np.ndarray]:
    """Log amplitudes [spans * bands] of each hit; what lies behind the end is silence."""
    padded = np.pad(waveform, (0, samples(_SPANS[-1][1]) + 1))
    return [np.concatenate([_span(padded, time, *span) for span in _SPANS]) for time in times]


def _span(waveform: np.ndarray, time: float, begin: float, end: float) -> np.ndarray:
    piece = waveform[samples(time + begin) : samples(time + end)]
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), _BINS)) / ((end - begin) * SAMPLE_RATE)
    return np.log(_QUIETEST + band_amplitudes(spectrum, _BANDS))
