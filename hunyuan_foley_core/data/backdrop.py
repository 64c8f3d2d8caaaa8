"""The room behind what happens: a wall and a floor in perspective."""

import numpy as np

from .paint import blend, rgb
from .scene import Camera

OVERSAMPLING = 2  # drawn larger and averaged, for smooth edges


def backdrop(camera: Camera, seed: int, height: int, width: int) -> np.ndarray:
    """float32 [height, width, 3] in 0..1, always the same room for a seed."""
    rng = np.random.default_rng([seed, 1])
    tall, wide = height * OVERSAMPLING, width * OVERSAMPLING
    unit = min(tall, wide) * camera.focal
    rows = (np.arange(tall, dtype=np.float32) + 0.5 - camera.horizon * tall) / unit
    columns = (np.arange(wide, dtype=np.float32) + 0.5 - wide / 2) / unit
    foot = camera.height / camera.wall  # where the wall meets the floor, on the scale of `rows`
    split = int(np.searchsorted(rows, foot))

    wall_x, wall_y = np.meshgrid(columns * camera.wall, camera.height - rows[:split] * camera.wall)
    depth = camera.height / np.maximum(rows[split:], 1e-3)
    floor_x, floor_z = columns[None] * depth[:, None], np.broadcast_to(depth[:, None], (tall - split, wide))
    picture = np.concatenate([_wall(rng, wall_x, wall_y), _floor(rng, floor_x, floor_z)])
    picture *= _light(rng, tall, wide)[..., None]
    return picture.reshape(height, OVERSAMPLING, width, OVERSAMPLING, 3).mean(axis=(1, 3)).clip(0, 1)


def _wall(rng, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    colour = rgb(rng.random(), rng.uniform(0.03, 0.35), rng.uniform(0.45, 0.85))
    other = colour * rng.uniform(0.8, 0.93)
    pattern = _pattern(rng, x, y, rng.choice(["flat", "stripes", "boards", "bricks"]))
    picture = blend(colour, other, pattern)
    skirting = y < rng.uniform(0.05, 0.15)
    picture[skirting] = colour * rng.choice([0.6, 1.15])
    return picture.astype(np.float32)


def _floor(rng, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    colour = rgb(rng.random(), rng.uniform(0.05, 0.35), rng.uniform(0.35, 0.75))
    other = colour * rng.uniform(0.7, 0.9)
    return blend(colour, other, _pattern(rng, x, z, rng.choice(["flat", "boards", "checks"]))).astype(np.float32)


def _pattern(rng, x: np.ndarray, y: np.ndarray, kind: str) -> np.ndarray:
    """0..1 over x and y in metres."""
    size, shift = rng.uniform(0.2, 0.5), rng.random()
    across, along = x / size + shift, y / size
    if kind == "flat":
        return np.zeros_like(across)
    if kind == "stripes":
        return 0.5 + 0.5 * np.sin(2 * np.pi * across)
    if kind == "boards":
        return (across % 1 < 0.05).astype(np.float32)
    if kind == "bricks":
        joints = (across + 0.5 * (np.floor(2 * along) % 2)) % 1 < 0.04
        return (joints | (2 * along % 1 < 0.08)).astype(np.float32)
    return (np.floor(across) + np.floor(along)) % 2


def _light(rng, tall: int, wide: int) -> np.ndarray:
    """A slope of brightness [tall, wide], and darker corners."""
    y, x = np.linspace(-1, 1, tall, dtype=np.float32)[:, None], np.linspace(-1, 1, wide, dtype=np.float32)[None]
    slope_x, slope_y, corners = rng.uniform(-0.12, 0.12), rng.uniform(-0.1, 0.1), rng.uniform(0.0, 0.15)
    return 1 + slope_x * x + slope_y * y - corners * (x**2 + y**2) / 2
