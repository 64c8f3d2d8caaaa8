"""Prompts that hold for a part of the clip, written one a line, and how much each counts at every latent frame.

    0:00-0:03 footsteps on gravel       from ... to ...
    0:03.2 door slams                   from a moment on, for a second
    #2 a crowd murmurs                  in the second scene
    * light rain                        everywhere else
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError
from .timing import LATENT_RATE

POINT_SECONDS = 1.0  # how long a prompt with a single time holds: a hit and its ringing
EDGE_SECONDS = 0.1  # over which a prompt fades in and out, around its times

SILENCE = "silence, no sound"

_REMEDY = (
    "A line reads `0:00-0:03 footsteps on gravel`, `0:03.2 door slams`, `#2 a crowd murmurs` (the second scene) or "
    "`* light rain` (everywhere else)."
)
_TIME = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:\.\d*)?)")
_DASH = re.compile(r"\s*[-\u2013\u2014]\s*")
_SCENE = re.compile(r"#(\d+)")
_BREAK = re.compile(r"\s+|$")


@dataclass(frozen=True)
class TimedPrompt:
    """A line of the text.

    Attributes:
        text: the prompt.
        line: its number, from 1.
        start, end: seconds; None with a scene, and both None for what holds everywhere else.
        scene: number from 1, or None.
    """

    text: str
    line: int
    start: float | None = None
    end: float | None = None
    scene: int | None = None

    @property
    def is_rest(self) -> bool:
        return self.start is None and self.scene is None


def time_of(word: str) -> float | None:
    """Seconds of a time as m:ss or h:mm:ss; None for anything else."""
    match = _TIME.fullmatch(word)
    if match is None:
        return None
    hours, minutes, seconds = int(match["hours"] or 0), int(match["minutes"]), float(match["seconds"])
    if seconds >= 60 or match["hours"] and minutes >= 60:
        return None
    return 3600 * hours + 60 * minutes + seconds


class _Line:
    """Reads a line from left to right and knows where it is."""

    def __init__(self, number: int, text: str):
        self.number, self.text, self.place = number, text, len(text) - len(text.lstrip())

    def take(self, pattern: re.Pattern) -> re.Match | None:
        match = pattern.match(self.text, self.place)
        if match:
            self.place = match.end()
        return match

    def error(self, expected: str, place: int | None = None) -> InputError:
        place = self.place if place is None else place
        found = self.text[place : place + 12].split()
        return InputError(
            f"Line {self.number}, character {place + 1}: found {f'`{found[0]}`' if found else 'the end of the line'}.",
            f"Expected {expected}.", _REMEDY,
        )

    def time(self) -> float | None:
        begin, match = self.place, self.take(_TIME)
        if match is None:
            return None
        seconds = time_of(match[0])
        if seconds is None:
            raise self.error("a time as m:ss or h:mm:ss, with less than 60 seconds and minutes", begin)
        return seconds

    def rest(self) -> str:
        """The prompt behind the time."""
        if not self.take(_BREAK):
            raise self.error("a space, then the prompt")
        if not self.text[self.place :].strip():
            raise self.error("a prompt")
        return self.text[self.place :].strip()


def parse(text: str) -> list[TimedPrompt]:
    """The prompts of a text, in its order; empty lines are left out.

    Raises:
        InputError: a line that is none, with its number and the character where it goes wrong; no line at all.
    """
    lines = [_Line(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError("There is no timed prompt.", "Expected at least one line.", _REMEDY)
    prompts = [_parse_line(line) for line in lines]
    rests = [prompt for prompt in prompts if prompt.is_rest]
    if len(rests) > 1:
        raise InputError(
            f"Line {rests[1].line}, character 1: found a second `*`, the first is in line {rests[0].line}.",
            "Expected one prompt for everywhere else.", "Put both into one line, with a comma between.",
        )
    return prompts


def _parse_line(line: _Line) -> TimedPrompt:
    if line.take(re.compile(r"\*")):
        return TimedPrompt(line.rest(), line.number)
    if scene := line.take(_SCENE):
        return TimedPrompt(line.rest(), line.number, scene=int(scene[1]))
    start = line.time()
    if start is None:
        raise line.error("a time such as 0:03 or 1:02:03.5, `#` and the number of a scene, or `*`")
    end = start + POINT_SECONDS
    if line.take(_DASH):
        place, end = line.place, line.time()
        if end is None:
            raise line.error("a time such as 0:03 at which the prompt ends")
        if end <= start:
            raise line.error(f"a time after {clock(start)}, where the prompt begins", place)
    return TimedPrompt(line.rest(), line.number, start, end)


def clock(seconds: float) -> str:
    """A time as this text writes it: 0:03.2, 1:02:03."""
    hundredths = round(100 * seconds)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    ending = f"{rest / 100:05.2f}".rstrip("0").rstrip(".")
    return f"{hours}:{minutes:02d}:{ending}" if hours else f"{minutes}:{ending}"


def elsewhere(has_picture: bool) -> str:
    """The prompt for everywhere else where nobody gave one: the picture decides, and without one it is quiet."""
    return "" if has_picture else SILENCE


def complete(prompts: Sequence[TimedPrompt], elsewhere: str) -> list[TimedPrompt]:
    """The same, with this prompt for everywhere else where no line has one."""
    return [*prompts] + [TimedPrompt(elsewhere, 0)] * (not any(prompt.is_rest for prompt in prompts))


def prompt_weights(prompts: Sequence[TimedPrompt], latent_frames: int, cuts: Sequence[int] = ()) -> Tensor:
    """How much each prompt counts at each latent frame, [P, L], float32; the sum is one at every frame.

    Prompts that hold at the same time share it evenly. A span that ends behind the clip ends with it.

    Args:
        prompts: one of them for everywhere else, as `complete` sees to.
        cuts: latent frames at which scenes begin, without 0.

    Raises:
        InputError: a span that begins behind the end of the clip, or a scene that it does not have.
    """
    times = (torch.arange(latent_frames, dtype=torch.float64) + 0.5) / LATENT_RATE
    edges = [0, *cuts, latent_frames]
    held = torch.stack([_held(prompt, times, edges) for prompt in prompts])
    total = held.sum(dim=0)
    shares = held / total.clamp(min=1)
    rest = torch.tensor([prompt.is_rest for prompt in prompts])[:, None]
    return torch.where(rest, (1 - shares.sum(dim=0)).clamp(0, 1), shares).float()


def _held(prompt: TimedPrompt, times: Tensor, edges: list[int]) -> Tensor:
    """From 0 to 1, how much a prompt holds at each of the times [L]."""
    if prompt.is_rest:
        return torch.zeros_like(times)
    if prompt.scene is not None:
        if not 1 <= prompt.scene < len(edges):
            raise InputError(
                f"Line {prompt.line}: there is no scene {prompt.scene}.", f"The video has {len(edges) - 1}.",
                "Connect the scenes to Encode Video, or write the time in place of the scene." if len(edges) == 2 else "",
            )
        frames, (first, last) = torch.arange(len(times)), edges[prompt.scene - 1 : prompt.scene + 1]
        return ((frames >= first) & (frames < last)).double()
    length = len(times) / LATENT_RATE
    if prompt.start >= length:
        raise InputError(
            f"Line {prompt.line}: the prompt begins at {clock(prompt.start)}, and the clip ends at {clock(length)}.",
            "Expected a time within the clip.", "Correct the time, or make the clip longer.",
        )
    return _passed(times, prompt.start) * (1 - _passed(times, prompt.end) if prompt.end < length else 1)


def _passed(times: Tensor, moment: float) -> Tensor:
    """0 before a moment, 1 after it, a raised cosine between; a clip's start and end have no edge."""
    if moment <= 0:
        return torch.ones_like(times)
    return (1 - torch.cos(math.pi * ((times - moment) / EDGE_SECONDS + 0.5).clamp(0, 1))) / 2
