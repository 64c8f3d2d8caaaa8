"""What each way of storing the transformer's weights costs: the error of the velocity against float32."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hunyuan_foley_core import checkpoint, media, pipeline, quantization, sampling, small_model
from hunyuan_foley_core.conditions import DEFAULT_NEGATIVE_PROMPT, encode_text_pair, encode_video
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.timing import ClipTiming, latent_frames

from .sizes import RELEASED, random_network

EXAMPLE = Path(__file__).parents[2] / "workflows" / "foley_example.mp4"
PROMPT = "hammering on a glass block"
STEPS, SHOWN = 20, (0, 5, 10, 15, 19)  # steps of the small model's trajectory, and which of them are looked at
WIDE_SIGMAS, WIDE_SECONDS, WIDE_BLOCKS, WIDE_TEXT_TOKENS = (1.0, 0.3), 0.64, (2, 2), 12
GUIDANCE = 4.5
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2

Rounding = Callable[[str, Tensor], Tensor]  # (key, float32 weight) -> what is left of it, float32


@dataclass(frozen=True)
class Case:
    """A transformer in float32 and inputs for it.

    Attributes:
        latents: by noise level, [1, C, L].
        conditions: text, negative text, visual and sync features.
    """

    title: str
    transformer: FoleyTransformer
    latents: dict[float, Tensor]
    conditions: tuple[Tensor, Tensor, Tensor, Tensor]


def small_case() -> Case:
    """The small model along its float32 trajectory for its own example."""
    files = pipeline.find_model_files(small_model.FOLDER)
    video = encode_video(media.stream_frames(EXAMPLE), *pipeline.load_video_encoders(files, "cpu"))
    clap = checkpoint.load_clap(files.clap, files.tokenizer, dtype=torch.float32)
    text, negative = encode_text_pair(clap, PROMPT, DEFAULT_NEGATIVE_PROMPT)
    transformer = checkpoint.load_transformer(files.transformer, dtype=torch.float32)
    noise = sampling.make_noise(1, transformer.config.latent_channels, latent_frames(video.seconds), 0)
    states = [noise]
    sampling.sample(
        transformer, noise, text=text, negative_text=negative, visual=video.visual, sync=video.sync, steps=STEPS,
        guidance_scale=GUIDANCE, callback=lambda done, of, latents: states.append(latents.clone()),
    )
    latents = {1 - index / STEPS: states[index] for index in SHOWN}
    title = f"The small model, {_sizes(transformer)}, its example of {video.seconds:g} s"
    return Case(title, transformer, latents, (text, negative, video.visual, video.sync))


def wide_case() -> Case:
    """Random weights of the released width and random inputs."""
    config = replace(RELEASED.transformer, num_multimodal_blocks=WIDE_BLOCKS[0], num_unimodal_blocks=WIDE_BLOCKS[1])
    transformer = random_network(FoleyTransformer, config).eval()
    generator, counts = torch.Generator().manual_seed(1), ClipTiming.from_seconds(WIDE_SECONDS)

    def normal(*shape: int) -> Tensor:
        return torch.randn(1, *shape, generator=generator)

    latents = {sigma: normal(config.latent_channels, counts.latent_frames) for sigma in WIDE_SIGMAS}
    conditions = (
        normal(WIDE_TEXT_TOKENS, config.text_dim), normal(WIDE_TEXT_TOKENS, config.text_dim),
        normal(counts.visual_tokens, config.visual_dim), normal(counts.sync_tokens, config.sync_dim),
    )
    return Case(f"Random weights, {_sizes(transformer)}, {WIDE_SECONDS:g} s", transformer, latents, conditions)


def _sizes(transformer: FoleyTransformer) -> str:
    config = transformer.config
    return f"width {config.hidden_size}, {config.num_multimodal_blocks} + {config.num_unimodal_blocks} blocks"


CASES = {"small": small_case, "wide": wide_case}


def through(dtype: torch.dtype) -> Rounding:
    return lambda key, weight: weight.to(dtype).float()


def scaled(key: str, weight: Tensor) -> Tensor:
    return quantization.dequantize(*quantization.quantize(weight))


def _either(serves: Callable[[str, Tensor], bool], small: Rounding, rest: Rounding) -> Rounding:
    return lambda key, weight: (small if serves(key, weight) else rest)(key, weight)


def _matrix(key: str, weight: Tensor) -> bool:
    return quantization.serves(key, weight.ndim)


def _linear(key: str, weight: Tensor) -> bool:
    return quantization.serves(key, weight.ndim, scaled=True)


BF16 = through(torch.bfloat16)
STORAGES: dict[str, Rounding] = {
    "bf16": BF16,
    "fp16": through(torch.float16),
    "fp8_e4m3fn": _either(_matrix, through(E4M3), BF16),
    "fp8_e5m2": _either(_matrix, through(E5M2), BF16),
    "fp8_e4m3fn_scaled": _either(_linear, scaled, BF16),
}
# Beside what we write: what would be, and what ComfyUI does on GPUs with products in fp8.
OTHERS: dict[str, Rounding] = {
    "scales for convolutions too": _either(_matrix, scaled, BF16),
    "e4m3fn for every weight of the file": through(E4M3),
}
IN_FP8 = "fp8_e4m3fn_scaled, products in fp8"

def _modulation(key: str, weight: Tensor) -> bool:
    return _linear(key, weight) and any(part in key for part in ("audio_mod.", "v_cond_mod.", "modulation."))


def _outside(*starts: str) -> Callable[[str, Tensor], bool]:
    return lambda key, weight: key.startswith(starts) and weight.ndim > 1


GROUPS: dict[str, Callable[[str, Tensor], bool]] = {
    "blocks: attention and MLP, linear": lambda key, weight: _linear(key, weight) and not _modulation(key, weight),
    "blocks: modulation": _modulation,
    "blocks: convolutions": lambda key, weight: _matrix(key, weight) and not _linear(key, weight),
    "time embedder": _outside("time_in."),
    "latents in and velocity out": _outside("audio_embedder.", "final_layer.linear"),
    "text projection": _outside("cond_in."),
    "visual projection": _outside("visual_proj."),
    "sync projection": _outside("sync_in."),
    "norms, biases and other vectors": lambda key, weight: weight.ndim == 1,
}
GROUP_ROUNDINGS: dict[str, Rounding] = {"e4m3fn": through(E4M3), "e5m2": through(E5M2), "scaled e4m3fn": scaled}


@torch.inference_mode()
def velocities(case: Case) -> Tensor:
    """[noise levels, 2 (unconditional, conditional), C, L]."""
    transformer, (text, negative, visual, sync) = case.transformer, case.conditions
    prepared = transformer.prepare(
        torch.cat((negative, text)), torch.cat((transformer.empty_visual(visual.shape[1]), visual)),
        torch.cat((transformer.empty_sync(sync.shape[1]), sync)), next(iter(case.latents.values())).shape[-1],
    )
    return torch.stack([
        transformer.denoise(latents.expand(2, -1, -1), torch.full((2,), 1000 * sigma), prepared)
        for sigma, latents in case.latents.items()
    ])


def guided(velocity: Tensor) -> Tensor:
    unconditional, conditional = velocity.unbind(1)
    return unconditional + GUIDANCE * (conditional - unconditional)


def error(found: Tensor, exact: Tensor) -> float:
    """Relative L2."""
    return float((found - exact).norm() / exact.norm())


@contextmanager
def rounded(transformer: FoleyTransformer, rounding: Rounding) -> Iterator[None]:
    """The transformer with its weights rounded, for a while."""
    exact = {key: parameter.data for key, parameter in transformer.named_parameters()}
    try:
        for key, parameter in transformer.named_parameters():
            parameter.data = rounding(key, parameter.data)
        yield
    finally:
        for key, parameter in transformer.named_parameters():
            parameter.data = exact[key]


@contextmanager
def inputs_in_fp8(transformer: FoleyTransformer) -> Iterator[None]:
    """The inputs of the blocks' linear layers as ComfyUI rounds them for products in fp8: e4m3fn, without a scale."""
    largest = torch.finfo(E4M3).max

    def rounded_input(layer, inputs):
        return (inputs[0].clamp(-largest, largest).to(E4M3).to(inputs[0].dtype),)

    hooks = [
        module.register_forward_pre_hook(rounded_input)
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith(quantization.BLOCKS)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def measure(case: Case, progress: Callable[[str], None]) -> dict:
    """Errors by storage and by group of layers, ready for JSON."""
    exact = velocities(case)

    def errors(rounding: Rounding) -> Tensor:
        with rounded(case.transformer, rounding):
            return velocities(case)

    found = {"title": case.title, "sigmas": list(case.latents), "storages": {}, "groups": {}}
    for name, rounding in (STORAGES | OTHERS).items():
        progress(name)
        found["storages"][name] = _described(errors(rounding), exact)
    progress(IN_FP8)
    with inputs_in_fp8(case.transformer):
        found["storages"][IN_FP8] = _described(errors(STORAGES["fp8_e4m3fn_scaled"]), exact)
    for name, belongs in GROUPS.items():
        progress(name)
        found["groups"][name] = {"share": _share(case.transformer, belongs)} | {
            kind: error(errors(_either(belongs, rounding, lambda key, weight: weight)), exact)
            for kind, rounding in GROUP_ROUNDINGS.items()
        }
    return found


def _described(found: Tensor, exact: Tensor) -> dict:
    return {
        "velocity": error(found, exact), "guided": error(guided(found), guided(exact)),
        "by_sigma": [error(one, other) for one, other in zip(found, exact)],
    }


def _share(transformer: FoleyTransformer, belongs: Callable[[str, Tensor], bool]) -> float:
    weights = list(transformer.named_parameters())
    chosen = sum(weight.numel() for key, weight in weights if belongs(key, weight))
    return chosen / sum(weight.numel() for _, weight in weights)


def tables(found: dict) -> list[str]:
    """Two tables in Markdown."""
    storages = [
        [name, *map(_percent, (row["velocity"], row["guided"], *row["by_sigma"]))]
        for name, row in found["storages"].items()
    ]
    groups = [
        [name, f"{row['share']:.1%}", *(_percent(row[kind]) for kind in GROUP_ROUNDINGS)]
        for name, row in found["groups"].items()
    ]
    sigmas = [f"sigma {sigma:g}" for sigma in found["sigmas"]]
    return [
        f"**{found['title']}**", "",
        *_table(["stored as", "velocity", f"guided at {GUIDANCE}", *sigmas], storages), "",
        *_table(["these layers alone", "share of the weights", *GROUP_ROUNDINGS], groups),
    ]


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]


def _percent(value: float) -> str:
    """With two digits that count."""
    return f"{100 * value:.{max(0, 1 - math.floor(math.log10(100 * value))) if value > 0 else 0}f} %"
