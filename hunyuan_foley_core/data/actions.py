"""The things that can happen, each with its physics; and the scenes made of them."""

import math
from dataclasses import dataclass

import numpy as np

from .materials import MATERIALS
from .motion import GRAVITY, Path, Stroke, stroke_path
from .scene import Actor, Body, Camera, Event, Part, Scene

SILENT_SHARE = 0.1
MARGIN = 0.12  # seconds from either end of the clip within which nothing hits
SPACING = 0.16  # seconds between any two hits
MOST_THINGS = 3  # that act in a clip
_REBOUND = 0.9  # m/s below which a thing stays down; what bounces at that speed is back after 0.18 s
_SHARES = {"drop": 0.4, "hammer": 0.25, "knock": 0.2, "roll": 0.15}
_DOORS = ("wood", "metal", "glass")
_STILL = (0.0, 0.0, 0.0)
_TRIES = 20


@dataclass(frozen=True)
class Stage:
    """Where an actor may act.

    Attributes:
        x: metres from the middle.
        spread: metres from there within which it may begin; less where others act beside it.
        depth: metres from the camera.
        half: half the width in metres that every picture shows at this depth.
        top: height in metres that every picture shows.
    """

    seconds: float
    x: float
    spread: float
    depth: float
    half: float
    top: float

    def inside(self, x: float, reach: float) -> float:
        """The place nearest to `x` where something that reaches so far to either side is seen whole."""
        return float(np.clip(x, reach - self.half, self.half - reach))

    def event(self, time: float, speed: float, x: float, material: str, action: str) -> Event:
        return Event(float(time), float(speed), math.hypot(x, self.depth), material, action)


def make_scene(seed: int, seconds: float, things: int = MOST_THINGS) -> Scene:
    """The scene of a seed, in which so many things act at most; the same seed with another length is another scene."""
    rng = np.random.default_rng([seed, 0])
    camera, depth = _camera(rng)
    if rng.random() < SILENT_SHARE:
        return Scene(seed, seconds, camera, (rest(rng, _stage(rng, camera, depth, seconds)),))
    actors: list[Actor] = []
    count = min(1 + int(rng.random() < 0.25) + int(rng.random() < seconds / 30), things)
    centres = rng.permutation(np.linspace(-0.3, 0.3, count)) if count > 1 else [0.0]
    for centre in centres:
        _add(rng, actors, _stage(rng, camera, depth, seconds, float(centre), spread=0.25 / count))
    return Scene(seed, seconds, camera, tuple(actors))


def _camera(rng) -> tuple[Camera, float]:
    """A camera and how far from it things happen."""
    metres, focal, horizon = rng.uniform(1.6, 3.0), rng.uniform(1.0, 1.6), rng.uniform(0.3, 0.5)
    depth, floor = metres * focal, rng.uniform(0.76, 0.9)  # the row where things stand
    return Camera(focal, (floor - horizon) * depth / focal, horizon, depth * rng.uniform(1.25, 1.7)), depth


def _stage(rng, camera: Camera, depth: float, seconds: float, centre: float = 0.0, spread: float = 0.25) -> Stage:
    depth *= rng.uniform(0.95, 1.1)
    metres = depth / camera.focal  # that fill the shorter side of the picture
    return Stage(seconds, centre * metres, spread * metres, depth, metres / 2, camera.height + camera.horizon * metres)


def _add(rng, actors: list[Actor], stage: Stage) -> None:
    """Adds an actor whose hits fit in between those there are; none, if the clip has no room for one."""
    taken = [event.time for actor in actors for event in actor.events]
    actions = {"drop": drop, "hammer": hammer, "knock": knock, "roll": roll}
    action, material = actions[rng.choice(list(_SHARES), p=list(_SHARES.values()))], _material(rng)
    for _ in range(_TRIES):
        actor = action(rng, stage, material)
        if (actor.events or actor.rolling) and _fits([event.time for event in actor.events], taken, stage.seconds):
            actors.append(actor)
            return


def _fits(times: list[float], taken: list[float], seconds: float) -> bool:
    together = np.sort([*times, *taken])
    inside = all(MARGIN <= time <= seconds - MARGIN for time in times)
    return inside and bool((np.diff(together) >= SPACING).all())


def drop(rng, stage: Stage, material: str) -> Actor:
    """A ball or block that hangs in the air, falls, bounces until it is spent, and may roll on."""
    size, ball = _size(rng, stage), rng.random() < 0.65
    part = _thing(rng, material, size, ball)
    bounce = rng.uniform(*MATERIALS[material].restitution) * (1.0 if ball else 0.6)
    x = stage.inside(stage.x + rng.uniform(-1, 1) * stage.spread, size)
    speed = -math.copysign(rng.uniform(0.0, 0.5), x) if ball else 0.0
    height = rng.uniform(0.35, 1.0) * max(stage.top - 2 * size, 0.5)
    release = rng.uniform(0.0, 0.6 * stage.seconds)

    pieces = [(0.0, (x, height + part.half_height, 0.0), _STILL, _STILL)]
    events, time, up, rolling = [], release, 0.0, None
    while time < stage.seconds:
        flight = (up + math.sqrt(up**2 + 2 * GRAVITY * height)) / GRAVITY
        spin = -speed / size
        at = Path.of(pieces).at(time)
        pieces.append((time, tuple(at), (speed, up, spin), (0.0, -GRAVITY, 0.0)))
        time, x, landing = time + flight, at[0] + speed * flight, GRAVITY * flight - up
        if time < stage.seconds:
            events.append(stage.event(time, landing, x, material, "drop"))
        up, height = bounce * landing, 0.0
        if up < _REBOUND:
            tail = _coast(time, (x, part.half_height, at[2] + spin * flight), speed, rng.uniform(0.2, 0.5), size)
            pieces += tail
            rolling = (float(time), float(tail[-1][0])) if abs(speed) > 0.1 and time < stage.seconds else None
            break
    body = Body((part,), Path.of(pieces), stage.depth)
    return Actor("drop", "ball" if ball else "block", material, size, (body,), tuple(events), rolling)


def roll(rng, stage: Stage, material: str) -> Actor:
    """A ball that rolls in from the side and may bump against a post and come back."""
    size = _size(rng, stage)
    side, slowing = rng.choice([-1.0, 1.0]), rng.uniform(0.1, 0.4)
    begin = side * (stage.half + 1.5 * size)
    speed, start, push = -side * rng.uniform(1.2, 2.6), rng.uniform(-0.6, 0.5 * stage.seconds), 0.3
    ball = _thing(rng, material, size, True)
    pieces = [(start, (begin, size, 0.0), _STILL, (speed / push, 0.0, -speed / push / size))]
    place = (begin + speed * push / 2, size, -speed * push / 2 / size)
    tail = _coast(start + push, place, speed, slowing, size)
    events, others = (), ()
    if rng.random() < 0.65:
        width = rng.uniform(0.06, 0.15)
        post = Part(width, rng.uniform(1.1, 2.0) * size, 0.02, "plain", rng.random())
        contact = -side * rng.uniform(0.0, 0.6) * stage.half
        distance = abs(contact - place[0])
        landing = math.sqrt(max(speed**2 - 2 * slowing * distance, 0.0))
        if landing > _REBOUND:
            time = start + push + (abs(speed) - landing) / slowing
            back = side * landing * rng.uniform(0.15, 0.4)
            turn = (contact, size, place[2] + side * distance / size)
            tail = [tail[0], *_coast(time, turn, back, slowing, size)]
            events = (stage.event(time, landing, contact, material, "roll"),) if time < stage.seconds else ()
            others = (Body((post,), Path.still(contact - side * (size + width), post.half_height), stage.depth),)
    body = Body((ball,), Path.of(pieces + tail), stage.depth)
    rolling = (float(start), float(tail[-1][0]))
    return Actor("roll", "ball", material, size, (body, *others), events, rolling)


def hammer(rng, stage: Stage, material: str, misses: bool = False) -> Actor:
    """A hammer on a block; with `misses` it stops short each time."""
    size = _size(rng, stage)
    block = _thing(rng, material, size, False)
    length, head = rng.uniform(0.5, 0.75) * stage.half, rng.uniform(0.09, 0.14) * stage.half
    strokes = _strokes(rng, stage.seconds, (1.0, 6.0), length, 0.6)
    x, side = stage.inside(stage.x + rng.uniform(-0.4, 0.4) * stage.spread, size), rng.choice([-1.0, 1.0])
    above = 2 * block.half_height + head + (0.6 * head if misses else 0.0)
    # The hand stays where it is and the head comes down on the block as the handle turns level.
    pivot, short = (x + side * length, above), (0.3 if misses else 0.0)
    path = stroke_path(strokes, lambda reach: (*pivot, -side * (reach / length + short)), gentle=misses)
    tone = rng.random()
    parts = (
        Part(length / 2, 0.025, 0.025, "handle", tone, -side * length / 2),
        Part(0.6 * head, head, 0.01, "steel", tone, -side * length),
    )
    bodies = (
        Body((block,), Path.still(x, block.half_height), stage.depth),
        Body(parts, path, stage.depth, shadow=False),
    )
    return _struck("hammer", "block", material, size, bodies, strokes, stage, x, misses)


def knock(rng, stage: Stage, material: str, misses: bool = False) -> Actor:
    """A fist on a door seen from aside; with `misses` it stops short each time. No door is of rubber or stone."""
    material = material if material in _DOORS else str(rng.choice(_DOORS))
    width = rng.uniform(0.16, 0.28) * stage.half
    side, tone = rng.choice([-1.0, 1.0]), rng.random()
    height = min(0.47 * stage.top, 0.95)
    x = stage.inside(stage.x - side * 0.3 * stage.half, width)
    door = (
        Part(width, height, 0.01, material, tone),
        Part(0.62 * width, 0.34 * height, 0.02, material, 1 - tone, 0.0, 0.5 * height),
        Part(0.62 * width, 0.34 * height, 0.02, material, 1 - tone, 0.0, -0.45 * height),
        Part(0.03, 0.03, 0.03, "steel", tone, side * 0.8 * width, 0.0),
    )
    strokes = _strokes(rng, stage.seconds, (1.2, 3.6), None, 0.25)
    fist, level = rng.uniform(0.13, 0.18) * stage.half, height * rng.uniform(1.0, 1.4)
    short = 0.2 if misses else 0.0
    path = stroke_path(strokes, lambda reach: (x + side * (width + fist + reach + short), level, 0.0), gentle=misses)
    skin = rng.random()
    hand = (
        Part(0.4, 0.5 * fist, 0.5 * fist, "sleeve", rng.random(), side * (0.4 + 0.6 * fist), -0.1 * fist),
        Part(fist, 0.8 * fist, 0.5 * fist, "skin", skin),
    )
    bodies = (
        Body(door, Path.still(x, height), stage.depth),
        Body(hand, path, stage.depth, shadow=False),
    )
    return _struck("knock", "door", material, 1.3 * width, bodies, strokes, stage, x + side * width, misses)


def rest(rng, stage: Stage) -> Actor:
    """Something without a sound: a thing that lies there, or blows that stop short."""
    kind, material = rng.random(), _material(rng)
    if kind < 0.3:
        return hammer(rng, stage, material, misses=True)
    if kind < 0.5:
        return knock(rng, stage, material, misses=True)
    size, ball = _size(rng, stage), rng.random() < 0.5
    part = _thing(rng, material, size, ball)
    x = stage.inside(stage.x + rng.uniform(-1, 1) * stage.spread, size)
    body = Body((part,), Path.still(x, part.half_height), stage.depth)
    return Actor("rest", "ball" if ball else "block", material, size, (body,))


def _struck(action, thing, material, size, bodies, strokes, stage: Stage, x: float, misses: bool) -> Actor:
    hits = [] if misses else strokes
    events = tuple(stage.event(stroke.time, stroke.speed, x, material, action) for stroke in hits)
    return Actor(action, thing, material, size, bodies, events, misses=misses)


def _strokes(rng, seconds: float, speeds: tuple[float, float], length: float | None, pause: float) -> list[Stroke]:
    """One to many blows, the harder the further they swing; `length` of a lever keeps its angle small."""
    strokes: list[Stroke] = []
    most = int(rng.integers(1, 3 + 2 * seconds))
    time = rng.uniform(MARGIN, 0.3 + 0.3 * seconds)
    while len(strokes) < most and time <= seconds - MARGIN:
        speed = rng.uniform(*speeds)
        reach = length * (0.3 + 0.11 * speed) if length else 0.06 + 0.07 * speed
        stroke = Stroke(float(time), float(speed), float(reach))
        if not strokes or stroke.follows(strokes[-1]):
            strokes.append(stroke)
            time += rng.uniform(0.0, 2 * pause)
        time += 0.1
    return strokes or [Stroke(seconds / 2, speeds[0], 0.1)]


def _coast(time: float, place, speed: float, slowing: float, size: float):
    """Pieces of a ball that rolls from `place` until friction stops it."""
    if speed == 0.0:
        return [(time, tuple(place), _STILL, _STILL)]
    lasts, brake = abs(speed) / slowing, -math.copysign(slowing, speed)
    end = (place[0] + speed * lasts / 2, place[1], place[2] - speed * lasts / 2 / size)
    return [
        (time, tuple(place), (speed, 0.0, -speed / size), (brake, 0.0, -brake / size)),
        (time + lasts, end, _STILL, _STILL),
    ]


def _material(rng) -> str:
    return str(rng.choice(list(MATERIALS)))


def _size(rng, stage: Stage) -> float:
    """Half a width in metres; 16 to 36 per cent of the picture for the whole width."""
    return float(rng.uniform(0.16, 0.36)) * stage.half


def _thing(rng, material: str, size: float, ball: bool) -> Part:
    tone = float(rng.random())
    if ball:
        return Part(size, size, size, material, tone)
    return Part(size, size * float(rng.uniform(0.6, 1.0)), 0.12 * size, material, tone)
