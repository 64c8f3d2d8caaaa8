"""Pictures as the two visual encoders saw them in training.

Both resizes stay in uint8 (width first, round, then height, round), which plain torch does on the CPU bit for bit like
the reference; resized in float, features are off by 1e-3. Resizing what already has its final size changes nothing, so
frames may be resized as they are decoded and handed to the encoders small.
"""

import torch
import torch.nn.functional as F
from einops import rearrange

from ..errors import InputError

SIGLIP2_SIZE = 512
SYNCHFORMER_SIZE = 224


def check_frames(frames) -> None:
    """Raises InputError unless `frames` are RGB pictures: uint8 [N,3,H,W], N >= 1."""
    shaped = isinstance(frames, torch.Tensor) and frames.ndim == 4 and frames.shape[1] == 3 and frames.numel() > 0
    if shaped and frames.dtype == torch.uint8:
        return
    got = f"{frames.dtype} {list(frames.shape)}" if isinstance(frames, torch.Tensor) else type(frames).__name__
    raise InputError(
        f"The video frames came as {got}.",
        "Expected at least one RGB picture, uint8 of shape [N, 3, H, W] with levels 0..255.",
        "Check that the video holds frames and convert them before encoding.",
    )


def _interleaved(frames):
    """The same frames; if stored pixel by pixel, with strides by which torch sees it and resizes 8 times faster.

    A single picture from a decoder, `image.permute(2, 0, 1)[None]`, is one: its stride over N hides its layout.
    """
    pixels = rearrange(frames, "N C H W -> N H W C")
    if not pixels.is_contiguous():
        return frames
    return rearrange(pixels.view(-1).view(pixels.shape), "N H W C -> N C H W")


def _resize(frames, size: tuple[int, int], mode: str):
    if frames.shape[-2:] == size:
        return frames.contiguous()
    resized = F.interpolate(_interleaved(frames), size=size, mode=mode, antialias=True, align_corners=False)
    return resized.contiguous()


def siglip2_pixels(frames, size: int = SIGLIP2_SIZE) -> torch.Tensor:
    """Frames uint8 [N,3,H,W] as uint8 [N,3,size,size] on the CPU: bilinear, the aspect is not kept."""
    check_frames(frames)
    return _resize(frames.cpu(), (size, size), "bilinear")


def synchformer_pixels(frames, size: int = SYNCHFORMER_SIZE) -> torch.Tensor:
    """Frames uint8 [N,3,H,W] as uint8 [N,3,size,size] on the CPU: bicubic, shorter side to `size`, centre cropped."""
    check_frames(frames)
    height, width = frames.shape[-2:]
    short, long = min(height, width), max(height, width)
    longer = int(size * long / short)
    resized = _resize(frames.cpu(), (size, longer) if height <= width else (longer, size), "bicubic")
    return _centre_crop(resized, size)


def _centre_crop(pixels, size: int):
    # Python's round goes to the even neighbour at .5, and so did the reference.
    top, left = (int(round((side - size) / 2)) for side in pixels.shape[-2:])
    return pixels[..., top:top + size, left:left + size].contiguous()


def normalise(pixels, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Levels 0..255 to -1..1, computed in float32 where the pixels are, returned as `dtype`."""
    return pixels.to(torch.float32, copy=True).div_(255).sub_(0.5).div_(0.5).to(dtype)
