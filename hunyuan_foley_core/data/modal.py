"""Sound of things that are hit and that roll: modes that ring and die away, and the noise of the contact.

Modal synthesis as in van den Doel, Kry and Pai, "FoleyAutomatic" (SIGGRAPH 2001): impacts excite the modes by where
and how hard they hit, rolling feeds the same modes with noise that follows the speed.
"""

import numpy as np

from ..timing import LATENT_RATE, SAMPLE_RATE
from .filters import convolve
from .materials import MATERIALS

_QUIET = 6.9  # nepers of 60 dB
_HIGHEST = 18_000.0  # Hz; modes above are left out
# Hz between the notes that modes are tuned to. Tones that fit whole into a latent frame look alike in every frame. With
# them, and one tuning for a material, a codec learns on one core in hours; free tunings need days of a GPU.
_GRID = float(LATENT_RATE)
_CLICK = 0.0012  # seconds in which the contact's noise falls to 1/e
_RUMBLE = 0.012  # the same for the modes of what the floor touches all the time
_HARDER = 0.3  # power of the speed with which a contact gets brighter
_LEVEL = 0.22  # peak of a hit at 1 m/s from 1 m; 6 m/s from 1.6 m is still below full scale
_ROLLING = 0.02  # rms of rolling at 1 m/s from 1 m


class Voice:
    """What things of one material sound like. Each material has one tuning, whatever is made of it.

    Args:
        material: a key of MATERIALS.
        rng: of the place and the noise of every contact.
    """

    def __init__(self, material: str, rng: np.random.Generator):
        self._rng, self._material = rng, MATERIALS[material]
        base, ratios = self._material.base, np.array(self._material.ratios)
        self._frequencies = np.maximum(1, np.round(base * ratios[base * ratios < _HIGHEST] / _GRID)) * _GRID
        slower = 1 + self._material.damping * (ratios[: len(self._frequencies)] - 1)
        self._decays = _QUIET * slower / self._material.ring
        time = _seconds(self._material.ring)
        self._modes = np.sin(2 * np.pi * self._frequencies[:, None] * time) * np.exp(-self._decays[:, None] * time)

    def hit(self, speed: float, distance: float) -> np.ndarray:
        """float [N] of a hit at `speed` m/s that is heard from `distance` metres; its first sample is the contact."""
        place = self._rng.uniform(0.15, 0.5)  # of the blow, along the thing
        order = np.arange(1, len(self._frequencies) + 1)
        brightness = self._material.brightness * speed**_HARDER
        weights = np.abs(np.sin(np.pi * order * place)) * np.exp(-self._frequencies / brightness)
        ring = weights @ self._modes
        sound = ring / np.abs(ring).max()
        click = self._rng.standard_normal(min(len(sound), int(8 * _CLICK * SAMPLE_RATE)))
        sound[: len(click)] += self._material.click * click * np.exp(-_seconds(8 * _CLICK)[: len(click)] / _CLICK)
        return sound * (_LEVEL * speed / distance / np.abs(sound).max())

    def roll(self, speed: np.ndarray, turns: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """float [N] of rolling at `speed` m/s, `turns` radians and `distance` metres at every sample."""
        weights = np.exp(-self._frequencies / self._material.brightness)
        time = _seconds(8 * _RUMBLE)
        rumble = np.sin(2 * np.pi * self._frequencies[:, None] * time) * np.exp(-time / _RUMBLE)
        rumble = weights @ rumble
        noise = convolve(self._rng.standard_normal(len(speed)), rumble / np.sqrt((rumble**2).sum()))
        uneven = 1 + 0.25 * np.sin(turns + self._rng.uniform(0, 2 * np.pi))
        return noise * uneven * _ROLLING * np.abs(speed) / distance


def _seconds(length: float) -> np.ndarray:
    """The times of the samples of so many seconds."""
    return np.arange(int(length * SAMPLE_RATE)) / SAMPLE_RATE
