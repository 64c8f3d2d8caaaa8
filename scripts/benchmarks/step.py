"""One transformer step: ours against a plain implementation, and against the floor its matrix products set."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.timing import TEXT_TOKENS, ClipTiming

from . import plain_transformer
from .sizes import Sizes, random_network

BATCH = 2  # unconditional and conditional
LARGEST_DIFFERENCE = 1e-5  # of the two implementations, in float32

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Inputs = dict[str, Tensor]
Shape = tuple[int, int, int]  # rows, inputs, outputs of a matrix product


def measure(sizes: Sizes, device: torch.device, rounds: int, clock: str, progress: Callable[[str], None]) -> dict:
    """Times the step. On a GPU in bfloat16, on a CPU in float32; what is compared is always compared in float32.

    Args:
        rounds: how often each of the candidates runs, in turns.
        clock: `wall`, or `cpu` for seconds of computing, which other work on the machine disturbs less.
        progress: told what is being done.

    Returns:
        Sizes, GFLOP, seconds (minimum and median), GFLOP/s and ratios, ready for JSON.

    Raises:
        AssertionError: the two implementations differ.
    """
    config, counts = sizes.transformer, ClipTiming.from_seconds(sizes.step_seconds)
    progress("random weights")
    network = random_network(FoleyTransformer, config).to(device)
    inputs = guided_inputs(network, counts, device)
    progress("comparing the two implementations")
    difference = largest_difference(network, inputs)
    assert difference <= LARGEST_DIFFERENCE, f"The two implementations differ by {difference:.1e}, relatively."

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    network, inputs = network.to(dtype), {name: tensor.to(dtype) for name, tensor in inputs.items()}
    shapes = matmul_shapes(config, counts)
    progress("counting operations")
    operations = [counted(make(network, inputs)) for make in (guided_step, plain_step)]
    seconds = interleaved(
        {"ours": guided_step(network, inputs), "plain": plain_step(network, inputs)}
        | {shape: matmul(shape, dtype, device) for shape in shapes},
        rounds, CLOCKS[clock], device, progress,
    )
    return {
        "width": config.hidden_size, "blocks": [config.num_multimodal_blocks, config.num_unimodal_blocks],
        "batch": BATCH, "latent_frames": counts.latent_frames, "visual_tokens": counts.visual_tokens,
        "sync_tokens": counts.sync_tokens, "text_tokens": TEXT_TOKENS,
        "device": device.type, "dtype": str(dtype).removeprefix("torch."), "clock": clock, "rounds": rounds,
        "difference": difference,
        **summary(seconds, shapes, *operations),
    }


def summary(seconds: dict, shapes: list[Shape], ours_gflop: float, plain_gflop: float) -> dict:
    """Minima, medians, and their ratios; the floor is our GFLOP at the rate of the fastest of the matrix products."""
    found = {"gflop": {"ours": ours_gflop, "plain": plain_gflop}}
    for name, pick in (("minimum", min), ("median", statistics.median)):
        ours, plain = pick(seconds["ours"]), pick(seconds["plain"])
        rates = {shape: 2e-9 * shape[0] * shape[1] * shape[2] / pick(seconds[shape]) for shape in shapes}
        best = max(rates, key=rates.get)
        found[name] = {
            "ours_seconds": ours, "plain_seconds": plain,
            "matmul_gflop_per_second": rates[best], "matmul_shape": list(best),
            "ours_over_plain": ours / plain,
            "ours_over_floor": ours * rates[best] / ours_gflop,
            "ours_over_floor_of_plain": ours * rates[best] / plain_gflop,
            "plain_over_floor_of_plain": plain * rates[best] / plain_gflop,
        }
    return found


def random_inputs(
    config: TransformerConfig, counts: ClipTiming, device: torch.device, batch: int = BATCH
) -> Inputs:
    generator = torch.Generator().manual_seed(1)
    shapes = {
        "latents": (config.latent_channels, counts.latent_frames),
        "text": (TEXT_TOKENS, config.text_dim),
        "visual": (counts.visual_tokens, config.visual_dim),
        "sync": (counts.sync_tokens, config.sync_dim),
    }
    inputs = {name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()}
    return {name: tensor.to(device) for name, tensor in inputs.items()} | {
        "timestep": torch.full((batch,), 500.0, device=device)
    }


def guided_inputs(network: FoleyTransformer, counts: ClipTiming, device: torch.device) -> Inputs:
    """Of one sound under guidance: the first sample sees the learned stand-ins for no picture."""
    inputs = random_inputs(network.config, counts, device)
    inputs["visual"][:1] = network.empty_visual(counts.visual_tokens)
    inputs["sync"][:1] = network.empty_sync(counts.sync_tokens)
    return inputs


def our_step(network: FoleyTransformer, inputs: Inputs, **denoise) -> Callable[[], Tensor]:
    """A step as sampling runs it, with what all steps share prepared before."""
    conditions = [inputs[name] for name in ("text", "visual", "sync")]
    prepared = network.prepare(*conditions, inputs["latents"].shape[-1])
    return lambda: network.denoise(inputs["latents"], inputs["timestep"], prepared, **denoise)


@torch.inference_mode()
def guided_step(network: FoleyTransformer, inputs: Inputs) -> Callable[[], Tensor]:
    """Our step as `sampling.sample` takes it: equal conditions are found, and both samples are at one time."""
    conditions = [inputs[name] for name in ("text", "visual", "sync")]
    prepared = network.prepare(*conditions, inputs["latents"].shape[-1]).of_samples(list(range(BATCH)))
    return lambda: network.denoise(inputs["latents"], inputs["timestep"], prepared)


def plain_step(network: FoleyTransformer, inputs: Inputs) -> Callable[[], Tensor]:
    weights, num_heads = network.state_dict(), network.config.num_heads
    return lambda: plain_transformer.velocity(weights, num_heads, **inputs)


@torch.inference_mode()
def largest_difference(network: FoleyTransformer, inputs: Inputs) -> float:
    """Relative difference of the two velocities, in the type of the network."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, plain = guided_step(network, inputs)().double(), plain_step(network, inputs)().double()
    return float((ours - plain).norm() / plain.norm())


@torch.inference_mode()
def interleaved(
    candidates: dict, rounds: int, clock: Callable[[], float], device: torch.device, progress: Callable[[str], None]
) -> dict:
    """Seconds of every candidate, taken in turns so that a slow spell of the machine falls on all of them."""

    def timed(candidate: Callable[[], Tensor]) -> float:
        start = clock()
        candidate()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock() - start

    progress("warming up")
    for candidate in candidates.values():
        timed(candidate)
    seconds = {name: [] for name in candidates}
    for number in range(rounds):
        progress(f"round {number + 1} of {rounds}")
        for name, candidate in candidates.items():
            seconds[name].append(timed(candidate))
    return seconds


def matmul_shapes(config: TransformerConfig, counts: ClipTiming, batch: int = BATCH) -> list[Shape]:
    """The largest matrix products of a step: attention, MLP, modulation, convolutions with taps side by side."""
    width, rows = config.hidden_size, batch * counts.latent_frames
    return [
        (rows, width, 3 * width),
        (rows, width, config.mlp_hidden),
        (rows, config.mlp_hidden, width),
        (batch * counts.sync_tokens, width, 6 * width),
        (rows, 3 * width, config.conv_mlp_hidden),
        (rows, 3 * config.conv_mlp_hidden, width),
    ]


def matmul(shape: Shape, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    rows, inputs, outputs = shape
    x = torch.randn(rows, inputs, dtype=dtype, device=device)
    weight = torch.randn(outputs, inputs, dtype=dtype, device=device)
    return lambda: F.linear(x, weight)


def gflop(config: TransformerConfig, counts: ClipTiming, batch: int = BATCH) -> tuple[float, float]:
    """1e9 operations of our and of the plain step, as if no conditions were equal; nothing is computed."""
    network = FoleyTransformer(config, device="meta").requires_grad_(False)
    inputs = random_inputs(config, counts, torch.device("meta"), batch)
    return counted(our_step(network, inputs)), counted(plain_step(network, inputs))


@torch.inference_mode()
def counted(step: Callable[[], Tensor]) -> float:
    """1e9 operations of a step, counted while it runs."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() / 1e9
