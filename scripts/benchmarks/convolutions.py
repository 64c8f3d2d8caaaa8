"""The convolutions of a unimodal block: torch's, and as one matrix product."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from hunyuan_foley_core.model.frame_conv import as_one_product
from hunyuan_foley_core.timing import ClipTiming

from . import step as transformer_step
from .sizes import Sizes

TAPS = 3


def measure(sizes: Sizes, device: torch.device, rounds: int, clock: str, progress: Callable[[str], None]) -> dict:
    """Times each at the frames of a step with guidance; in bfloat16 on a GPU, in float32 on a CPU.

    Returns:
        Rows ready for JSON, with the fastest seconds of each way, and their ratio.
    """
    config, dtype = sizes.transformer, torch.bfloat16 if device.type == "cuda" else torch.float32
    frames, batch = ClipTiming.from_seconds(sizes.step_seconds).latent_frames, transformer_step.BATCH
    width, hidden = config.hidden_size, config.conv_mlp_hidden
    layers = {"linear1": (width, width), "linear2.w1, w3": (width, hidden), "linear2.w2": (hidden, width)}
    rows = []
    for name, (inputs, outputs) in layers.items():
        progress(name)
        x = torch.randn(batch, frames, inputs, dtype=dtype, device=device).transpose(1, 2)
        weight = torch.randn(outputs, inputs, TAPS, dtype=dtype, device=device) / inputs**0.5
        ways = {
            "convolution": lambda x=x, weight=weight: F.conv1d(x, weight, padding=TAPS // 2),
            "convolution_of_channels": lambda x=x, weight=weight: F.conv1d(x.contiguous(), weight, padding=TAPS // 2),
            "product": lambda x=x, weight=weight: as_one_product(x, weight),
        }
        timed = transformer_step.interleaved(ways, rounds, transformer_step.CLOCKS[clock], device, lambda doing: None)
        seconds = {way: min(values) for way, values in timed.items()}
        fastest = min(seconds["convolution"], seconds["convolution_of_channels"])
        rows.append({
            "layer": name, "shape": [outputs, inputs, TAPS], "seconds": seconds,
            "product_over_convolution": seconds["product"] / fastest,
        })
    return {
        "frames": frames, "batch": batch, "dtype": str(dtype).removeprefix("torch."), "device": device.type, "rows": rows,
    }


def lines(found: dict) -> list[str]:
    """For reading."""
    head = "Convolutions of {batch} x {frames} frames, {dtype} on {device}, milliseconds, fastest".format(**found)
    title = f"  {'':16}{'torch':>10}{'channels first':>16}{'one product':>13}{'over torch':>12}"
    return [head, title, *(
        f"  {row['layer']:16}{1e3 * row['seconds']['convolution']:10.2f}"
        f"{1e3 * row['seconds']['convolution_of_channels']:16.2f}{1e3 * row['seconds']['product']:13.2f}"
        f"{row['product_over_convolution']:12.2f}"
        for row in found["rows"]
    )]
