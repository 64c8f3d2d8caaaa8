"""How surfaces look: each material has its own pattern and its own family of colours."""

import colorsys
from collections.abc import Callable

import numpy as np

Colours = np.ndarray  # [..., 3] in 0..1
_GRAIN = 64


def rgb(hue: float, saturation: float, value: float) -> np.ndarray:
    """float32 [3]; the hue may run over its circle."""
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def blend(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> Colours:
    """From one colour to another by `share` [...] in 0..1."""
    return low + (high - low) * share[..., None]


def _speckles() -> np.ndarray:
    coarse = np.random.default_rng(7).random((_GRAIN, _GRAIN), np.float32)
    return (coarse + np.roll(coarse, 1, 0)) / 2


_SPECKLES = _speckles()


def _wood(u, v, tone) -> Colours:
    rings = 0.5 + 0.5 * np.sin(17 * u + 2.2 * np.sin(2.6 * v + 6 * tone))
    hue = 0.065 + 0.03 * tone
    return blend(rgb(hue, 0.72, 0.42), rgb(hue + 0.01, 0.6, 0.78), rings)


def _metal(u, v, tone) -> Colours:
    sheen = 0.5 + 0.5 * np.sin(5.5 * (v + 0.35 * u))  # bands of a mirrored room
    return blend(rgb(0.6, 0.18, 0.34 + 0.1 * tone), rgb(0.58, 0.06, 0.98), sheen**2)


def _glass(u, v, tone) -> Colours:
    streak = np.exp(-(((u - v) * 1.6 - 0.5) ** 2) * 14)
    return blend(rgb(0.46 + 0.08 * tone, 0.45, 0.8), rgb(0.5, 0.05, 1.0), streak)


def _rubber(u, v, tone) -> Colours:
    hue = (0.95, 0.33, 0.62, 0.14)[int(3.999 * tone)] + 0.04 * tone
    stripe = np.clip(6 * (0.3 - np.abs(u)), 0, 1)
    return blend(rgb(hue, 0.9, 0.72), rgb(hue, 0.35, 0.95), stripe)


def _stone(u, v, tone) -> Colours:
    grain = _SPECKLES[(9 * v).astype(int) % _GRAIN, (9 * u + 31 * tone).astype(int) % _GRAIN]
    return blend(rgb(0.09, 0.08, 0.26 + 0.1 * tone), rgb(0.09, 0.05, 0.66), grain)


def _flat(hue: float, spread: float, saturation: float, value: float) -> Callable[..., Colours]:
    def paint(u, v, tone) -> Colours:
        return np.broadcast_to(rgb(hue + spread * tone, saturation, value), (*u.shape, 3))

    return paint


# u and v run from -1 to 1 over the longer half of a part, turning with it; tone is the part's own number in 0..1.
PAINTS: dict[str, Callable[..., Colours]] = {
    "wood": _wood,
    "metal": _metal,
    "glass": _glass,
    "rubber": _rubber,
    "stone": _stone,
    "neutral": _flat(0.1, 0.0, 0.02, 0.72),
    "plain": _flat(0.0, 1.0, 0.3, 0.62),
    "handle": _flat(0.02, 0.08, 0.5, 0.3),
    "steel": _flat(0.6, 0.05, 0.12, 0.28),
    "skin": _flat(0.05, 0.03, 0.45, 0.85),
    "sleeve": _flat(0.0, 1.0, 0.5, 0.45),
}
# Share of the light that a paint keeps from what is behind it, and strength of its highlight.
OPACITY = {"glass": 0.62}
GLOSS = {"metal": 0.9, "glass": 0.8, "rubber": 0.15, "wood": 0.1, "steel": 0.4}
