"""The sound of a scene: all that is hit and rolls, the room it is in, and the room's own noise below it."""

import numpy as np

from ..timing import SAMPLE_RATE, samples
from .filters import convolve, low_pass, shaped
from .modal import Voice
from .scene import Actor, Scene

PEAK = 0.95  # of full scale, which no clip goes beyond
BAND = (7000.0, 7900.0)  # Hz: a band-limited clip fades out between them
_EARLIEST = 0.004  # seconds after the sound itself before the room answers
_SMOOTH = 240  # samples between the moments at which rolling is looked at


def scene_sound(scene: Scene, band_limited: bool = False) -> np.ndarray:
    """float32 [N] at 48 kHz. Every hit begins at the sample of its time."""
    rng = np.random.default_rng([scene.seed, 3])
    dry = np.zeros(samples(scene.seconds))
    for actor in scene.actors:
        _add(dry, actor, rng)
    sound = _in_room(dry, rng) + _ambience(len(dry), rng)
    if band_limited:
        sound = low_pass(sound, *BAND)
    return (sound * min(1.0, PEAK / np.abs(sound).max())).astype(np.float32)


def _add(dry: np.ndarray, actor: Actor, rng: np.random.Generator) -> None:
    voice = Voice(actor.material, rng)
    for event in actor.events:
        begin = samples(event.time)
        hit = voice.hit(event.speed, event.distance)[: len(dry) - begin]
        dry[begin : begin + len(hit)] += hit
    if actor.rolling:
        begin, end = (min(max(samples(time), 0), len(dry)) for time in actor.rolling)
        if end > begin:
            dry[begin:end] += _rolling(actor, voice, begin, end)


def _rolling(actor: Actor, voice: Voice, begin: int, end: int) -> np.ndarray:
    path, places = actor.bodies[0].path, np.arange(begin, end)
    moments = np.arange(begin, end + _SMOOTH, _SMOOTH)
    times = moments / SAMPLE_RATE
    speed, turns, distance = (
        np.interp(places, moments, values)
        for values in (np.abs(path.velocity(times)[:, 0]), path.at(times)[:, 2], actor.distance(times))
    )
    return voice.roll(speed, turns, distance)


def _in_room(dry: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With the echo of a room of random size and softness."""
    ring, level = rng.uniform(0.15, 0.5), rng.uniform(0.02, 0.1)
    time = np.arange(int(ring * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * np.exp(-6.9 * time / ring)
    tail[: int(_EARLIEST * SAMPLE_RATE)] = 0
    return dry + convolve(dry, level * tail / np.sqrt((tail**2).sum()))


def _ambience(length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise at -66 to -54 dB of full scale (rms), stronger the lower it is, but reaching up to the highest."""
    corner, floor = rng.uniform(100, 800), rng.uniform(0.02, 0.08)

    def gain(frequencies):
        return (1 / (1 + frequencies / corner) + floor) * (frequencies > 20)

    noise = shaped(rng.standard_normal(length), gain)
    return noise * 10 ** (rng.uniform(-66, -54) / 20) / max(np.sqrt((noise**2).mean()), 1e-9)
