"""Draws a scene: any moment of it, at any size."""

import math
from dataclasses import dataclass

import numpy as np

from .backdrop import backdrop
from .materials import MATERIALS
from .paint import GLOSS, OPACITY, PAINTS
from .scene import Body, Camera, Part, Scene


@dataclass(frozen=True)
class _View:
    """The camera with a picture of `height` by `width` pixels."""

    camera: Camera
    height: int
    width: int

    def scale(self, depth: float) -> float:
        """Pixels per metre at a depth."""
        return min(self.height, self.width) * self.camera.focal / depth

    def pixel(self, x: float, y: float, depth: float) -> tuple[float, float]:
        """Column and row of a point."""
        scale = self.scale(depth)
        return self.width / 2 + x * scale, self.camera.horizon * self.height + (self.camera.height - y) * scale

    def window(self, column: float, row: float, across: float, down: float) -> tuple[slice, slice] | None:
        """Rows and columns within so many pixels of a point; None if it lies outside the picture."""
        top, bottom = max(math.floor(row - down), 0), min(math.ceil(row + down) + 1, self.height)
        left, right = max(math.floor(column - across), 0), min(math.ceil(column + across) + 1, self.width)
        return (slice(top, bottom), slice(left, right)) if top < bottom and left < right else None


class Renderer:
    """Draws the frames of a scene.

    Args:
        size: height and width in pixels.
        neutral: paint every material the same grey, so that the picture does not tell them apart.
    """

    def __init__(self, scene: Scene, size: tuple[int, int], neutral: bool = False):
        self._view = _View(scene.camera, *size)
        self._neutral = neutral
        rng = np.random.default_rng([scene.seed, 2])
        angle = rng.uniform(0.2, math.pi - 0.2)
        self._light = np.array([0.6 * math.cos(angle), 0.6 * math.sin(angle), 0.8], np.float32)
        bodies = sorted((body for actor in scene.actors for body in actor.bodies), key=lambda body: -body.depth)
        self._moving = [body for body in bodies if body.path.moves]
        room = backdrop(scene.camera, scene.seed, *size)
        self._still = np.ascontiguousarray((room * 255 + 0.5).astype(np.uint8).transpose(2, 0, 1))
        for body in bodies:
            if not body.path.moves:
                self._draw(self._still, body, 0.0)

    def frame(self, time: float) -> np.ndarray:
        """uint8 [3, height, width] at a moment in seconds."""
        picture = self._still.copy()
        for body in self._moving:
            self._draw(picture, body, time)
        return picture

    def _draw(self, picture: np.ndarray, body: Body, time: float) -> None:
        x, y, angle = (float(value) for value in body.path.at(time))
        if body.shadow:
            self._shadow(picture, body, x, y)
        cos, sin = math.cos(angle), math.sin(angle)
        for part in body.parts:
            centre = x + cos * part.x - sin * part.y, y + sin * part.x + cos * part.y
            self._part(picture, part, *centre, angle, body.depth)

    def _shadow(self, picture: np.ndarray, body: Body, x: float, y: float) -> None:
        """On the floor below the body: the higher it is, the wider and paler."""
        part = body.parts[0]
        gap, scale = max(y - part.half_height, 0.0), self._view.scale(body.depth)
        column, row = self._view.pixel(x, 0.0, body.depth)
        across = (part.half_width * 1.05 + 0.15 * gap) * scale
        down = max(across * 0.22, 1.0)
        window = self._view.window(column, row, across + 1, down + 1)
        if window is None:
            return
        rows, columns = _pixels(window)
        edge = 1 - np.hypot((columns - column) / across, (rows - row) / down)
        cover = np.clip(edge * across / (1 + 0.2 * across + 0.6 * gap * scale), 0, 1) * (0.5 / (1 + 1.5 * gap))
        _mix(picture[(slice(None), *window)], np.zeros(3, np.float32), cover)

    def _part(self, picture: np.ndarray, part: Part, x: float, y: float, angle: float, depth: float) -> None:
        scale = self._view.scale(depth)
        column, row = self._view.pixel(x, y, depth)
        cos, sin = math.cos(angle), math.sin(angle)
        across = (abs(cos) * part.half_width + abs(sin) * part.half_height) * scale + 1
        down = (abs(sin) * part.half_width + abs(cos) * part.half_height) * scale + 1
        window = self._view.window(column, row, across, down)
        if window is None:
            return
        rows, columns = _pixels(window)
        right, up = (columns - column) / scale, (row - rows) / scale
        u, v = cos * right + sin * up, cos * up - sin * right
        cover = np.clip(0.5 - _outside(part, u, v) * scale, 0, 1)
        longer = max(part.half_width, part.half_height)
        paint = "neutral" if self._neutral and part.paint in MATERIALS else part.paint
        colour = PAINTS[paint](u / longer, v / longer, part.tone)
        colour = self._shade(part, paint, colour, right, up, v)
        _mix(picture[(slice(None), *window)], colour, cover * OPACITY.get(paint, 1.0))

    def _shade(self, part: Part, paint: str, colour, right, up, v) -> np.ndarray:
        """Light from above on a ball, or on the front of a box with its bright upper edge."""
        if not part.round:
            edge = np.clip((v / part.half_height - 0.8) * 5, 0, 1)
            return np.clip(colour * (0.86 + 0.1 * v / part.half_height + 0.22 * edge)[..., None], 0, 1)
        nx, ny = right / part.half_width, up / part.half_width
        nz = np.sqrt(np.clip(1 - nx**2 - ny**2, 0, 1))
        facing = nx * self._light[0] + ny * self._light[1] + nz * self._light[2]
        shine = GLOSS.get(paint, 0.05) * np.clip(facing, 0, 1) ** 30
        return np.clip(colour * (0.45 + 0.6 * np.clip(facing, 0, 1))[..., None] + shine[..., None], 0, 1)


def _pixels(window: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
    """Rows [h, 1] and columns [1, w] of the centres of the pixels."""
    rows, columns = window
    return (
        np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + 0.5,
        np.arange(columns.start, columns.stop, dtype=np.float32)[None] + 0.5,
    )


def _outside(part: Part, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Metres from the edge of a box with round corners, negative inside."""
    across = np.abs(u) - (part.half_width - part.corner)
    down = np.abs(v) - (part.half_height - part.corner)
    corner = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    return corner + np.minimum(np.maximum(across, down), 0) - part.corner


def _mix(patch: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    """Lays `colour` [..., 3] in 0..1 over a uint8 patch [3, h, w], as far as `cover` [h, w] says."""
    target = np.moveaxis(np.broadcast_to(colour, (*cover.shape, 3)), -1, 0) * 255
    patch[:] = (patch + (target - patch) * cover + 0.5).astype(np.uint8)
