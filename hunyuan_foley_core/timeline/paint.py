"""Colours, letters and soft-edged shapes of the timeline."""

from functools import cache

import numpy as np
from PIL import ImageFont

Colour = tuple[int, int, int]

PAPER, PANEL, GRID = (15, 17, 22), (22, 25, 32), (44, 49, 60)
INK, FADED = (230, 233, 240), (136, 144, 160)
WAVE, WAVE_CORE, MOTION, ONSET = (64, 134, 214), (148, 203, 255), (104, 201, 158), (255, 200, 87)
SCENE, WINDOW, PROMPT = (142, 119, 214), (70, 98, 148), (214, 112, 92)
# Black over violet and orange to pale yellow, even steps of brightness.
_HEAT = np.array([(12, 12, 20), (44, 20, 84), (106, 28, 110), (176, 50, 96), (230, 94, 62), (250, 166, 62), (250, 240, 168)])
_SHADES = 36  # 2 dB of the spectrogram each: the eye sees no steps, and noise takes half the bytes in a file


@cache
def font(size: int):
    return ImageFont.load_default(size=size)


def filled(colour: Colour, height: int, width: int) -> np.ndarray:
    """float32 [height, width, 3]."""
    return np.broadcast_to(np.float32(colour), (height, width, 3)).copy()


def lay(panel: np.ndarray, coverage: np.ndarray, colour: Colour, opacity: float = 1.0) -> None:
    """Paints onto `panel` [H, W, 3] where `coverage` [H, W] is above 0, up to 1."""
    share = (coverage * opacity)[..., None].astype(np.float32)
    panel *= 1 - share
    panel += share * np.float32(colour)


def between(tops: np.ndarray, bottoms: np.ndarray, height: int) -> np.ndarray:
    """Coverage [height, W] of what lies between two curves, in pixels from above; their edges are soft."""
    rows = np.arange(height)[:, None]
    return np.clip(np.minimum(bottoms, rows + 1) - np.maximum(tops, rows), 0, 1)


def heat(shares: np.ndarray) -> np.ndarray:
    """Shares 0..1 [...] as colours [..., 3]."""
    anchors = np.linspace(0, 1, len(_HEAT))
    shares = np.round(shares * _SHADES) / _SHADES
    return np.stack([np.interp(shares, anchors, channel) for channel in _HEAT.T], axis=-1).astype(np.float32)
