"""A small transformer trained with everything that sharding has to respect; run by test_train_sharding.py, also by torchrun.

Parameters are read outside of forward methods, text is projected ahead of the blocks, blocks are computed again in the
backward pass, a second module is trained beside the first, weights are averaged, and one process alone asks to stop.
"""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import nn

from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.lora import layers
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.sampling import sample
from hunyuan_foley_core.train import loop, sharding
from hunyuan_foley_core.train.config import LoopConfig, OptimiserConfig
from hunyuan_foley_core.train.flow import FlowObjective
from hunyuan_foley_core.train.lora_task import LoRAObjective
from hunyuan_foley_core.train.repa import Projector

SIZES = TransformerConfig(
    latent_channels=8, hidden_size=32, num_heads=2, num_multimodal_blocks=2, num_unimodal_blocks=2, mlp_hidden=48,
    conv_mlp_hidden=48, sync_mlp_hidden=48, text_dim=12, visual_dim=10, sync_dim=14, sync_tokens_per_segment=8,
    time_frequencies=16,
)
FRAMES, TEACHER = 10, 6
LOOP = LoopConfig(
    steps=4, accumulate=4, warmup_steps=2, schedule="constant", final_rate=1.0, ema=0.5, log_every=1, tensorboard=False, validate_every=3,
    validation_batches=1, save_every=10, keep=5, seed=3,
)
CONFIG = SimpleNamespace(
    device="cpu", precision="fp32", checkpointing=True,
    objective=SimpleNamespace(timesteps="logit_normal", shift=1.0, sample_latents=True, visual_dropout=0.4, text_dropout=0.4),
    repa=SimpleNamespace(weight=0.5, block=1, width=16), preview=SimpleNamespace(vae="", steps=2, guidance_scale=3.0),
    optimiser=OptimiserConfig(1e-3, 0.0, (0.9, 0.95), 0.01, 0.5),
)


class Stopped(Exception):
    pass


class Previewed(FlowObjective):
    """Keeps the latents that its preview is made of."""

    def preview(self, batch, generator, folder):
        noise = torch.randn(batch["mean"].shape, generator=generator)
        conditions = {name: batch[name] for name in ("text", "visual", "sync")}
        made = sample(self.transformer, noise, negative_text=batch["empty_text"], steps=2, **conditions)
        torch.save(made, folder / "made.pt")


def random_parameters(module: nn.Module, generator: torch.Generator) -> None:
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=0.1, generator=generator)


def objective(config=CONFIG) -> FlowObjective:
    generator = loop.seeded(LOOP.seed)
    transformer, projector = FoleyTransformer(SIZES), Projector(SIZES.hidden_size, config.repa.width, TEACHER)
    random_parameters(transformer, generator)
    random_parameters(projector, generator)
    sharding.shard(transformer, config.device, projector)
    return Previewed(config, transformer, dict(transformer.named_parameters()), projector)


def source(number: int) -> dict:
    generator = loop.seeded(7, number)
    shapes = {
        "mean": (2, 8, FRAMES), "logvar": (2, 8, FRAMES), "visual": (2, 2, 10), "sync": (2, 8, 14), "text": (2, 5, 12),
        "empty_text": (1, 5, 12), "teacher": (2, FRAMES, TEACHER),
    }
    return {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()} | {"names": [f"clip {number}"]}


def run(folder: Path, steps: int = LOOP.steps, stop_at: int | None = None, batches=source) -> FlowObjective:
    def callback(done, of, figures):
        if done == stop_at:
            raise Stopped

    trained = objective()
    settings = {"task": "flow", "model": SIZES.to_dict()}
    config = replace(LOOP, steps=steps)
    loop.train(trained, batches, config, folder, settings=settings, validation=source, callback=callback)
    return trained


def run_lora(folder: Path) -> None:
    """Over a frozen transformer with the matrices of its blocks in bf16."""
    transformer = FoleyTransformer(SIZES)
    random_parameters(transformer, loop.seeded(LOOP.seed))
    for _, layer in layers(transformer):
        layer.weight.data = layer.weight.data.bfloat16()
    chosen = SimpleNamespace(preset="all", rank=2, alpha=2.0, rslora=True, save_as="fp32")
    config = SimpleNamespace(**vars(CONFIG) | {"lora": chosen, "loop": replace(LOOP, steps=2, accumulate=2)})
    trained = LoRAObjective(config, transformer, None, {})
    loop.train(trained, source, config.loop, folder, settings={"task": "lora", "model": {}})


def poisoned(number: int) -> dict:
    batch = source(number)
    return batch | {"mean": batch["mean"] / 0} if number == 5 else batch


def main(folder: Path) -> None:
    with sharding.processes("cpu"):
        try:
            run(folder / "shared", stop_at=2)
        except (Stopped, KeyboardInterrupt) as stopped:
            (folder / f"stopped-{int(sharding.first())}").write_text(type(stopped).__name__)
        run(folder / "shared")
        run_lora(folder / "shared-lora")
        try:
            run(folder / "poisoned", batches=poisoned)
        except loop.TrainingError as error:
            (folder / f"error-{int(sharding.first())}").write_text(str(error))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
    sharding.leave(0)
