"""Does the sound hit when the picture hits? Onsets of a waveform, and how they agree with the true times."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..onsets import onsets as onsets  # found here by those who score
from ..timing import SAMPLE_RATE


@dataclass(frozen=True)
class OnsetScore:
    """Agreement of found with true onsets, over any number of clips.

    Attributes:
        matched, found, true: counts.
        offsets: found minus true time of each pair, seconds.
    """

    matched: int
    found: int
    true: int
    offsets: tuple[float, ...] = ()

    @property
    def f1(self) -> float:
        """2 * matched / (found + true); 1 where there is nothing to find and nothing was found."""
        return 2 * self.matched / (self.found + self.true) if self.found + self.true else 1.0

    @property
    def median_offset(self) -> float:
        """Median of the absolute offsets in seconds; NaN without a pair."""
        return float(np.median(np.abs(self.offsets))) if self.offsets else float("nan")

    def __add__(self, other: "OnsetScore") -> "OnsetScore":
        counts = self.matched + other.matched, self.found + other.found, self.true + other.true
        return OnsetScore(*counts, self.offsets + other.offsets)


def pairs(found: Sequence[float], true: Sequence[float], tolerance: float) -> list[tuple[int, int]]:
    """Places in both lists, each in order, of times that are at most `tolerance` seconds apart.

    Each is used once, as many as can be: taking the earliest of both lists that fit is optimal.
    """
    together, i, j = [], 0, 0
    while i < len(found) and j < len(true):
        offset = found[i] - true[j]
        if abs(offset) <= tolerance:
            together.append((i, j))
        i, j = i + (offset <= tolerance), j + (offset >= -tolerance)
    return together


def compare(found: Sequence[float], true: Sequence[float], tolerance: float) -> OnsetScore:
    """How well two lists of times agree, by their `pairs`."""
    found, true = sorted(found), sorted(true)
    offsets = tuple(float(found[i] - true[j]) for i, j in pairs(found, true, tolerance))
    return OnsetScore(len(offsets), len(found), len(true), offsets)


def total(scores: Sequence[OnsetScore]) -> OnsetScore:
    """The score of all clips together."""
    return sum(scores, OnsetScore(0, 0, 0))


def chance(found: Sequence[Sequence[float]], true: Sequence[Sequence[float]], tolerance: float, seed: int = 0) -> float:
    """The F1 that remains when each clip is held against the events of another one.

    The mean over ten random shifts of a shuffled order, so that no clip meets its own events.
    """
    count = len(found)
    if count < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(10):
        order = rng.permutation(count)
        others = np.roll(order, int(rng.integers(1, count)))
        scores.append(total([compare(found[a], true[b], tolerance) for a, b in zip(order, others, strict=True)]).f1)
    return float(np.mean(scores))


def levels(waveform: np.ndarray, times: Sequence[float], length: float = 0.05) -> np.ndarray:
    """Peak amplitude [len(times)] within `length` seconds after each time."""
    starts = (np.asarray(times) * SAMPLE_RATE).astype(int)
    return np.array([np.abs(waveform[at : at + int(length * SAMPLE_RATE)]).max(initial=0.0) for at in starts])


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's; NaN below two values or where all are the same."""
    ranks = _ranks(a), _ranks(b)
    if len(a) < 2 or min(np.ptp(order) for order in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    """Places in ascending order; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[which]
