"""What can be heard in a sound, beside what happens in its clip."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..data import Clip, scoring
from ..data.listening import MaterialClassifier
from ..timing import SAMPLE_RATE

TOLERANCE, NARROW = 0.06, 0.03  # seconds
_EARLY = 0.002  # seconds before an onset from which its level is taken


@dataclass(frozen=True, eq=False)
class Hearing:
    """A sound and the truth about its clip, event by event in order of time.

    Attributes:
        onsets: seconds at which something is heard to hit.
        times, speeds, materials: of the true events.
        heard: the material each event sounds like, at the onset that belongs to it; at its true time where none does.
        levels: peak amplitude of each event, taken at the same place.
        silent: whether nothing in the clip is heard but the room.
    """

    onsets: np.ndarray
    times: tuple[float, ...]
    speeds: tuple[float, ...]
    materials: tuple[str, ...]
    heard: tuple[str, ...]
    levels: np.ndarray
    silent: bool


def listen(clip: Clip, waveform: np.ndarray, classifier: MaterialClassifier) -> Hearing:
    """Hears a sound [N] at 48 kHz that was made for a clip, or the clip's own."""
    onsets, times = scoring.onsets(waveform), tuple(event.time for event in clip.events)
    places = np.array(times)
    for found, true in scoring.pairs(onsets, times, TOLERANCE):
        places[true] = onsets[found]
    return Hearing(
        onsets, times, tuple(event.speed for event in clip.events), tuple(event.material for event in clip.events),
        tuple(classifier(waveform, places)), levels(waveform, places), clip.silent,
    )


def levels(waveform: np.ndarray, times) -> np.ndarray:
    """Peak amplitude of the hit at each time in seconds, the click itself included."""
    return scoring.levels(waveform, np.maximum(np.asarray(times) - _EARLY, 0))


def onset_score(hearings: Iterable[Hearing], tolerance: float = TOLERANCE) -> scoring.OnsetScore:
    return scoring.total([scoring.compare(hearing.onsets, hearing.times, tolerance) for hearing in hearings])


def control_score(hearings: list[Hearing]) -> float:
    """The onset F1 of every sound against the events of the clip after it."""
    others = hearings[1:] + hearings[:1]
    pairs = zip(hearings, others, strict=True)
    return scoring.total([scoring.compare(ours.onsets, other.times, TOLERANCE) for ours, other in pairs]).f1


def chance_level(hearings: list[Hearing]) -> float:
    """The mean of that over shuffled orders; NaN below two clips."""
    return scoring.chance([h.onsets for h in hearings], [h.times for h in hearings], TOLERANCE)


def material_accuracy(hearings: Iterable[Hearing]) -> float:
    """Share of the events that sound like what they are made of; NaN without an event."""
    right = [heard == true for h in hearings for heard, true in zip(h.heard, h.materials, strict=True)]
    return float(np.mean(right)) if right else float("nan")


def silent_share(hearings: Iterable[Hearing]) -> float:
    """Share of the silent clips in which nothing is heard to hit; NaN without one."""
    quiet = [not len(hearing.onsets) for hearing in hearings if hearing.silent]
    return float(np.mean(quiet)) if quiet else float("nan")


def loudness_follows_speed(hearings: Iterable[Hearing]) -> float:
    """Rank correlation of level and impact speed over all events together."""
    hearings = list(hearings)
    levels, speeds = (np.concatenate([getattr(h, name) for h in hearings] or [[]]) for name in ("levels", "speeds"))
    return scoring.rank_correlation(levels, speeds)


def energy_above(waveform: np.ndarray, frequency: float) -> float:
    """Power of [N] above a frequency in Hz, in dB of a full-scale square wave; -120 where there is none."""
    spectrum = np.abs(np.fft.rfft(waveform)) ** 2
    spectrum[1 : (len(waveform) + 1) // 2] *= 2  # the negative frequencies
    upper = spectrum[np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE) > frequency].sum() / len(waveform) ** 2
    return float(10 * np.log10(upper + 1e-12))
