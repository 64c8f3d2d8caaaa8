"""What a clip of the small world holds: things, where they move, and what hits when and how hard."""

from dataclasses import dataclass

import numpy as np

from .motion import Path


@dataclass(frozen=True)
class Event:
    """A hit that can be seen and heard. Truth for scoring; nothing that is trained may read it.

    Attributes:
        time: seconds from the start of the clip.
        speed: m/s of the impact.
        distance: metres from the camera, which is also the microphone.
        material: of what rings.
        action: "drop", "roll", "hammer" or "knock".
    """

    time: float
    speed: float
    distance: float
    material: str
    action: str


@dataclass(frozen=True)
class Part:
    """A box with round corners, which a ball is too; metres, in the frame of its body.

    Attributes:
        half_width, half_height, corner: of the box.
        paint: a material, or one of the other paints of `paint.py`.
        tone: 0..1, where in its paint's range of colours it lies.
        x, y: of its centre.
    """

    half_width: float
    half_height: float
    corner: float
    paint: str
    tone: float
    x: float = 0.0
    y: float = 0.0

    @property
    def round(self) -> bool:
        return self.corner == self.half_width == self.half_height


@dataclass(frozen=True, eq=False)
class Body:
    """Parts that move together, `depth` metres in front of the camera."""

    parts: tuple[Part, ...]
    path: Path
    depth: float
    shadow: bool = True


@dataclass(frozen=True, eq=False)
class Actor:
    """Something that happens, with all that shows it.

    Attributes:
        action: see Event; "rest" for what does nothing.
        thing: "ball", "block" or "door".
        material: of what is heard.
        size: half the width in metres; large things sound low.
        bodies: what is drawn, the sounding one first.
        events: in order of time, all within the clip.
        rolling: seconds from and to, in which the first body rolls on the floor.
        misses: whether its strokes stop short.
    """

    action: str
    thing: str
    material: str
    size: float
    bodies: tuple[Body, ...]
    events: tuple[Event, ...] = ()
    rolling: tuple[float, float] | None = None
    misses: bool = False

    def distance(self, times) -> np.ndarray:
        """Metres from the camera to the first body."""
        body = self.bodies[0]
        return np.hypot(body.path.at(times)[..., 0], body.depth)


@dataclass(frozen=True)
class Camera:
    """A camera that looks straight ahead, x = 0 in the middle of the picture.

    Attributes:
        focal: focal length over the shorter side of the picture.
        height: metres above the floor.
        horizon: its row, as a share of the height of the picture.
        wall: metres to the wall.
    """

    focal: float
    height: float
    horizon: float
    wall: float


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip before it is drawn and sounded.

    Attributes:
        seed: of everything; what draws or sounds it derives its own random numbers from it.
    """

    seed: int
    seconds: float
    camera: Camera
    actors: tuple[Actor, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        return tuple(sorted((event for actor in self.actors for event in actor.events), key=lambda event: event.time))

    @property
    def silent(self) -> bool:
        """Whether nothing but the room is heard."""
        return all(not actor.events and actor.rolling is None for actor in self.actors)
