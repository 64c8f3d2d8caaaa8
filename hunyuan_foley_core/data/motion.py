"""Motion in closed form, so that any frame rate sees the same world."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

GRAVITY = 9.81  # m/s^2
Triple = tuple[float, float, float]
_RETURN = 0.3  # seconds at most from a blow back to where the next swing starts
_SHORTEST_RETURN = 0.2
_CONTACT = 0.08  # seconds at the start of the return in which what has struck stays where it landed


@dataclass(frozen=True, eq=False)
class Path:
    """Pieces of constant acceleration.

    Attributes:
        starts: seconds [K], ascending, when each piece begins. Before the first one its start holds.
        pieces: [K, 3, 3]: place, velocity and acceleration at that moment, each of x, y (metres) and angle (radians,
            counterclockwise).
    """

    starts: np.ndarray
    pieces: np.ndarray

    @classmethod
    def still(cls, x: float, y: float) -> "Path":
        return cls.of([(0.0, (x, y, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))])

    @classmethod
    def of(cls, pieces: Sequence[tuple[float, Triple, Triple, Triple]]) -> "Path":
        """A path from (start, place, velocity, acceleration)."""
        return cls(np.array([piece[0] for piece in pieces]), np.array([piece[1:] for piece in pieces]))

    @property
    def moves(self) -> bool:
        return bool(self.pieces[:, 1:].any())

    def at(self, times) -> np.ndarray:
        """x, y and angle at `times` [...]: [..., 3]."""
        place, velocity, acceleration, since = self._pieces_at(times)
        return place + velocity * since + acceleration * since**2 / 2

    def velocity(self, times) -> np.ndarray:
        """Change of x, y and angle per second at `times` [...]: [..., 3]."""
        _, velocity, acceleration, since = self._pieces_at(times)
        return velocity + acceleration * since

    def _pieces_at(self, times):
        times = np.asarray(times, dtype=np.float64)
        index = np.maximum(np.searchsorted(self.starts, times, side="right") - 1, 0)
        since = np.maximum(times - self.starts[index], 0.0)[..., None]
        return (*np.moveaxis(self.pieces[index], -2, 0), since)


@dataclass(frozen=True)
class Stroke:
    """A blow of a hammer or fist.

    Attributes:
        time: seconds, when it lands.
        speed: m/s on landing.
        reach: metres it swings through, at constant acceleration from rest.
    """

    time: float
    speed: float
    reach: float

    @property
    def swing(self) -> float:
        """Seconds from rest to landing."""
        return 2 * self.reach / self.speed

    def follows(self, last: "Stroke") -> bool:
        """Whether there is time to draw back after the one before."""
        return self.time - self.swing >= last.time + _SHORTEST_RETURN


def stroke_path(strokes: Sequence[Stroke], place: Callable[[float], Triple], gentle: bool = False) -> Path:
    """The path of what strikes.

    Args:
        place: x, y and angle for a distance (metres) from the point of contact; must be linear in it.
        gentle: slow down to a stop before turning back, as what does not want to touch does.
    """
    origin = np.array(place(0.0))
    direction = np.array(place(1.0)) - origin
    pieces = []
    for stroke, after in zip(strokes, [*strokes[1:], None], strict=True):
        begin = stroke.time - stroke.swing
        back = after.reach if after else stroke.reach
        free = after.time - after.swing - stroke.time if after else math.inf
        pause = min(_RETURN, free)
        if gentle:
            pieces += [*_ease(begin, stroke.reach, 0.0, stroke.swing), *_ease(stroke.time, 0.0, back, pause)]
        else:
            pieces.append((begin, stroke.reach, 0.0, -2 * stroke.reach / stroke.swing**2))
            lift = pause - _CONTACT
            pieces.append((stroke.time, 0.0, 0.0, 0.0))
            pieces.append((stroke.time + _CONTACT, 0.0, 2 * back / lift, -2 * back / lift**2))
        if pause < free:
            pieces.append((stroke.time + pause, back, 0.0, 0.0))
    starts = np.array([piece[0] for piece in pieces])
    places = np.array([[origin + p * direction, v * direction, a * direction] for _, p, v, a in pieces])
    return Path(starts, places)


def _ease(begin: float, start: float, end: float, lasts: float):
    """Pieces (time, place, velocity, acceleration) from rest to rest."""
    push = 4 * (end - start) / lasts**2
    return [(begin, start, 0.0, push), (begin + lasts / 2, (start + end) / 2, push * lasts / 2, -push)]
