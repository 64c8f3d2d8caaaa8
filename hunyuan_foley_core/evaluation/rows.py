"""The rows of the table: what is asked, on which takes, and what came of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..data import Clip, make_clip
from ..data.actions import MOST_THINGS
from ..data.captions import ADJECTIVES
from ..data.listening import MaterialClassifier
from . import hearing
from .hearing import Hearing
from .takes import LISTENING_SEED, SECONDS, Take, Takes, first

LENGTHS = (2.0, 4.0, 8.0, 12.0)  # seconds
RATES = (12.0, 15.0, 24.0, 30.0, 60.0)  # frames per second
SIZES = ((96, 96), (240, 426), (426, 240), (480, 854))  # height and width
BAND_EDGE = 8000.0  # Hz


@dataclass(frozen=True)
class Row:
    """One figure of the table.

    Attributes:
        name: of the part that made it.
        what: in words.
        figure: for reading, with what explains it.
        target: in words; empty where the figure is only reported.
        passed: None where there is no target.
        values: the bare numbers.
    """

    name: str
    what: str
    figure: str
    target: str = ""
    passed: bool | None = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is listened to.

    Attributes:
        clips: in the main set; the others are shares of it.
        lessons: true sounds that the judge of materials learns from.
        seconds: length of a clip, where it is not what a row varies.
    """

    clips: int = 200
    lessons: int = 300
    seconds: float = SECONDS

    def first(self, share: float = 1.0, **how) -> list[Take]:
        """A share of the main set's number of takes; see `takes.first`."""
        return first(max(1, round(share * self.clips)), **{"seconds": self.seconds, **how})


class Bench:
    """Hears takes, each set once."""

    def __init__(self, takes: Takes, plan: Plan):
        self.takes, self.plan = takes, plan
        self._made: dict[tuple[Take, ...], list[Hearing]] = {}
        self._true: dict[tuple[Take, ...], list[Hearing]] = {}

    @cached_property
    def classifier(self) -> MaterialClassifier:
        """A judge that has heard true sounds only, of seeds that are neither trained on nor scored."""
        seeds = range(LISTENING_SEED, LISTENING_SEED + self.plan.lessons)
        return MaterialClassifier(make_clip(seed, SECONDS) for seed in seeds)

    def made(self, takes: list[Take]) -> list[Hearing]:
        """What the sounds made for some takes let hear."""
        if tuple(takes) not in self._made:
            heard = self.takes.heard(takes)
            self._made[tuple(takes)] = [hearing.listen(clip, sound, self.classifier) for clip, sound in heard]
        return self._made[tuple(takes)]

    def true(self, takes: list[Take]) -> list[Hearing]:
        """The same of the clips' own sounds: what a perfect model would reach under this judge."""
        if tuple(takes) not in self._true:
            clips = (take.clip() for take in takes)
            self._true[tuple(takes)] = [hearing.listen(c, c.waveform.numpy(), self.classifier) for c in clips]
        return self._true[tuple(takes)]


class Part(NamedTuple):
    """What can be asked for by name: the takes it needs made, and the rows they give."""

    takes: Callable[[Plan], list[Take]]
    rows: Callable[[Bench], list[Row]]


def at_least(name: str, what: str, value: float, target: float, figure: str, **values: float) -> Row:
    return Row(name, what, figure, f"at least {target:g}", value >= target, {"value": value, **values})


def main_takes(plan: Plan) -> list[Take]:
    return plan.first()


def onset_row(name: str, what: str, bench: Bench, takes: list[Take], target: float) -> Row:
    """Onset F1 of takes against the truth, with the narrower tolerance and the offset beside it."""
    heard = bench.made(takes)
    score, narrow = hearing.onset_score(heard), hearing.onset_score(heard, hearing.NARROW)
    figure = (
        f"{score.f1:.3f} (+-30 ms: {narrow.f1:.3f}; median offset {1000 * score.median_offset:.1f} ms; "
        f"{score.matched} of {score.true} events in {len(takes)} clips, {score.found} found)"
    )
    return at_least(
        name, what, score.f1, target, figure, f1_30ms=narrow.f1, median_offset_s=score.median_offset,
        matched=score.matched, true=score.true, found=score.found,
    )


def onset_rows(bench: Bench) -> list[Row]:
    return [onset_row("onsets", "onset F1 against the true events, +-60 ms", bench, main_takes(bench.plan), 0.92)]


def control_rows(bench: Bench) -> list[Row]:
    heard = bench.made(main_takes(bench.plan))
    score, chance = hearing.control_score(heard), hearing.chance_level(heard)
    return [Row(
        "control", "onset F1 against another clip's events", f"{score:.3f} (chance by shuffling: {chance:.3f})",
        "at most chance + 0.05", score <= chance + 0.05, {"value": score, "chance": chance},
    )]


def material_row(name: str, what: str, bench: Bench, takes: list[Take], target: float) -> Row:
    """Accuracy of the judge on what was made, relative to that on the same clips' own sounds."""
    made, true = hearing.material_accuracy(bench.made(takes)), hearing.material_accuracy(bench.true(takes))
    share = made / true if true else math.nan
    events = sum(len(heard.times) for heard in bench.made(takes))
    figure = f"{share:.3f} ({made:.3f} of the judge's own {true:.3f}; {events} events in {len(takes)} clips)"
    return at_least(name, what, share, target, figure, accuracy=made, judge=true)


def material_rows(bench: Bench) -> list[Row]:
    what = "material, picture and prompt agreeing, relative to true sounds"
    return [material_row("material", what, bench, main_takes(bench.plan), 0.90)]


def several_takes(plan: Plan) -> list[Take]:
    """Clips of the wider world that is trained on, in which more than one thing acts."""
    return plan.first(0.25, where=lambda clip: len(clip.scene.actors) > 1, things=MOST_THINGS)


def several_rows(bench: Bench) -> list[Row]:
    takes, what = several_takes(bench.plan), "two or three things at a time"
    return [
        onset_row("several", f"onset F1, {what}", bench, takes, 0.92),
        material_row("several", f"material, {what}", bench, takes, 0.90),
    ]


def text_takes(plan: Plan) -> list[Take]:
    """Clips in a neutral picture whose caption names the material; without a name no text alone can tell it."""
    return plan.first(0.3, where=_named, look="neutral")


def _named(clip: Clip) -> bool:
    return bool(clip.events) and any(word in clip.caption for word in ADJECTIVES[clip.scene.actors[0].material])


def text_rows(bench: Bench) -> list[Row]:
    what = "material, neutral picture, text alone, relative to true sounds"
    return [material_row("text", what, bench, text_takes(bench.plan), 0.80)]


def silent_takes(plan: Plan) -> list[Take]:
    """A fifth of the main set's number of silent clips; about half of them are in it."""
    return plan.first(0.2, where=lambda clip: clip.silent)


def silent_rows(bench: Bench) -> list[Row]:
    takes = silent_takes(bench.plan)
    share = hearing.silent_share(bench.made(takes))
    figure = f"{share:.3f} ({round(share * len(takes))} of {len(takes)})"
    return [at_least("silent", "silent clips in which nothing is heard to hit", share, 0.95, figure)]


def loudness_rows(bench: Bench) -> list[Row]:
    takes = main_takes(bench.plan)
    made, true = (hearing.loudness_follows_speed(heard) for heard in (bench.made(takes), bench.true(takes)))
    what = "rank correlation of an event's loudness and its impact speed"
    return [at_least("loudness", what, made, 0.7, f"{made:.3f} (true sounds: {true:.3f})", true=true)]


def tag_takes(plan: Plan) -> list[Take]:
    """Each clip with and without the tag, one after the other; one of the two is a take of the main set."""
    takes = plan.first(0.2, where=lambda clip: bool(clip.events))
    return [replace(take, tag=None if take.scouted().tagged == tag else tag) for take in takes for tag in (True, False)]


def tag_rows(bench: Bench) -> list[Row]:
    energy = [hearing.energy_above(sound, BAND_EDGE) for _, sound in bench.takes.heard(tag_takes(bench.plan))]
    gains = np.subtract(energy[::2], energy[1::2])
    median, (low, high) = float(np.median(gains)), np.quantile(gains, (0.25, 0.75))
    figure = f"{median:+.1f} dB median (quartiles {low:+.1f} and {high:+.1f} dB; {len(gains)} pairs of equal seed)"
    what = "energy above 8 kHz with the bandwidth tag against without"
    return [Row("tag", what, figure, "at least 10 dB", median >= 10, {"value": median})]


def length_takes(plan: Plan) -> dict[str, list[Take]]:
    """The same length of sound in all, so fewer clips of the longer ones."""
    return {f"{seconds:g} s long": plan.first(0.4 / seconds, seconds=seconds) for seconds in LENGTHS}


def rate_takes(plan: Plan) -> dict[str, list[Take]]:
    return {f"{fps:g} frames/s": plan.first(0.1, fps=fps) for fps in RATES}


def size_takes(plan: Plan) -> dict[str, list[Take]]:
    return {f"{size[1]} x {size[0]} pixels": plan.first(0.1, size=size) for size in SIZES}


def plain_takes(plan: Plan) -> dict[str, list[Take]]:
    return {"another renderer's plain shapes": plan.first(0.25, look="plain")}


def beyond(name: str, target: float, sets: Callable[[Plan], dict[str, list[Take]]]) -> Part:
    """A part with one row of onset F1 for each named set of takes."""

    def rows(bench: Bench) -> list[Row]:
        return [
            onset_row(name, f"onset F1, {what}", bench, takes, target) for what, takes in sets(bench.plan).items()
        ]

    return Part(lambda plan: [take for takes in sets(plan).values() for take in takes], rows)
