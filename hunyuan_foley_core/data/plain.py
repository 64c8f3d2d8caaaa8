"""A second, poorer way to draw a scene: flat shapes with hard edges on one colour, to see what a model leans on."""

import math

import numpy as np

from .scene import Body, Scene


class PlainRenderer:
    """Draws the frames of a scene; shares no drawing code with `Renderer`, and looks straight from the side.

    Args:
        size: height and width in pixels.
    """

    def __init__(self, scene: Scene, size: tuple[int, int]):
        rng = np.random.default_rng([scene.seed, 6])
        camera, (self._height, self._width) = scene.camera, size
        self._bodies = sorted((body for actor in scene.actors for body in actor.bodies), key=lambda body: -body.depth)
        # Everything at one scale: as far away as the nearest body, with the floor where that one stands.
        depth = self._bodies[-1].depth if self._bodies else camera.wall
        self._scale = min(size) * camera.focal / depth
        self._floor = camera.horizon * self._height + camera.height * self._scale
        self._background = rng.integers(0, 256, 3)
        # Far from the background on the circle of each channel, so that nothing is hidden.
        self._colours = (self._background + rng.integers(64, 193, (len(self._bodies), 3))) % 256

    def frame(self, time: float) -> np.ndarray:
        """uint8 [3, height, width] at a moment in seconds."""
        picture = np.empty((3, self._height, self._width), np.uint8)
        picture[:] = self._background[:, None, None]
        for body, colour in zip(self._bodies, self._colours, strict=True):
            picture[:, self._covered(body, time)] = colour[:, None]
        return picture

    def _covered(self, body: Body, time: float) -> np.ndarray:
        """bool [height, width], where the body is."""
        x, y, angle = body.path.at(time)
        right = (np.arange(self._width) + 0.5 - self._width / 2) / self._scale - x
        up = (self._floor - np.arange(self._height) - 0.5)[:, None] / self._scale - y
        u, v = math.cos(angle) * right + math.sin(angle) * up, math.cos(angle) * up - math.sin(angle) * right
        inside = np.zeros(u.shape, bool)
        for part in body.parts:
            across, down = (u - part.x) / part.half_width, (v - part.y) / part.half_height
            inside |= np.hypot(across, down) < 1 if part.round else np.maximum(abs(across), abs(down)) < 1
        return inside
