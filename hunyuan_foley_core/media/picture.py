"""From a decoded frame to an upright RGB picture in uint8."""

import math

import av
import numpy as np
import torch

# FFmpeg's numbers for colour matrices: as frames are tagged, and as swscale calls them.
_BT709, _BT601 = 1, 5
_MATRICES = {1: _BT709, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9, 10: 9}
_VIDEO_RANGE, _FULL_RANGE = 1, 2


class Upright:
    """Turns the frames of one clip into uint8 (3, H, W), RGB, as the display matrix shows them, alpha dropped.

    Colours follow each frame's own matrix and range (untagged: BT.601, as swscale has it).
    """

    def __init__(self):
        self._rotation, self._matrix = None, None

    def __call__(self, frame: av.VideoFrame) -> torch.Tensor:
        # Asking a frame for its side data ties it into a reference cycle, and pictures would pile up until the next
        # garbage collection (700 MB in 15 s of 1080p); so only where the cheap angle differs from the frame before.
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, display_matrix(frame)
        image = torch.from_numpy(_converted(frame).to_ndarray()).permute(2, 0, 1)
        return image if self._matrix is None else _turned(image, self._matrix)


def _converted(frame: av.VideoFrame) -> av.VideoFrame:
    if frame.format.is_rgb or frame.format.has_palette:
        return frame.reformat(format="rgb24")
    # Older PyAV looks at the matrix and range only where source and target differ. RGB has no matrix of its own, so
    # naming another one there changes nothing but makes every version convert alike.
    matrix = _MATRICES.get(int(frame.colorspace), _BT601)
    target = _BT601 if matrix != _BT601 else _BT709
    levels = int(frame.color_range) or (_FULL_RANGE if frame.format.name.startswith("yuvj") else _VIDEO_RANGE)
    return frame.reformat(
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=target,
        src_color_range=levels,
        dst_color_range=_FULL_RANGE,
    )


def display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d) of the frame's display matrix: a point goes to x' = ax + cy, y' = bx + dy. None without one."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = (int(v) for v in np.frombuffer(bytes(data), np.int32)[:5])
    return a, b, c, d


def is_transposed(matrix: tuple[int, int, int, int]) -> bool:
    """Whether width and height change places."""
    a, b, _, _ = matrix
    return abs(b) > abs(a)


def clockwise(matrix: tuple[int, int, int, int]) -> int:
    """Degrees clockwise, to the nearest of 0, 90, 180, 270."""
    a, b, _, _ = matrix
    return round(math.degrees(math.atan2(b, a)) / 90) * 90 % 360


def _turned(image: torch.Tensor, matrix: tuple[int, int, int, int]) -> torch.Tensor:
    """The picture (C, H, W) as the matrix shows it: turns by multiples of 90 degrees and mirrorings."""
    a, b, c, d = matrix
    if is_transposed(matrix):
        image, across, down = image.transpose(1, 2), c, b
    else:
        across, down = a, d
    flipped = [dim for dim, sign in ((2, across), (1, down)) if sign < 0]
    return image.flip(flipped) if flipped else image
