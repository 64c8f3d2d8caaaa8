"""What can be trained: from settings to a trained network, one function for each `task`."""

from collections.abc import Callable
from pathlib import Path

import torch

from ..checkpoint import load_transformer, load_vae
from ..config import TransformerConfig
from ..model import FoleyTransformer
from . import features, sharding
from .config import build
from .dac_vae import CodecConfig, CodecObjective
from .encoders import EncodersConfig, EncodersObjective, learn_tokenizer
from .errors import TrainingError
from .flow import FlowConfig, FlowObjective, initialise
from .initialisation import INITIALISATION_STREAM, starting_network, xavier
from .loop import Callback, Objective, Source, seeded, train
from .lora_task import LoRAObjective, LoRARunConfig, load_base
from .repa import Projector
from .sounds import split
from .spectral_encoder import SpectralEncoderObjective
from .world_clips import WorldClips, captions


def train_codec(settings: dict, callback: Callback | None) -> Path:
    config = build(CodecConfig, settings)
    _check_device(config.device)
    source, validation = split(config.data, config.model.hop, config.loop.seed)
    objective = SpectralEncoderObjective(config) if config.part == "encoder" else CodecObjective(config)
    return _train(config, objective, source, validation, settings, callback)


def train_encoders(settings: dict, callback: Callback | None) -> Path:
    config = build(EncodersConfig, settings)
    _check_device(config.device)
    first, clips, held_out = config.data.first_seed, config.data.clips, config.data.held_out
    tokenizer = Path(config.tokenizer)
    if not tokenizer.is_file():
        tokenizer.parent.mkdir(parents=True, exist_ok=True)
        learn_tokenizer(captions(range(first, first + clips)), config.model.clap.vocabulary).save(str(tokenizer))
    source, validation = (
        WorldClips(config.data, seeds, config.model.siglip2.image_size)
        for seeds in (range(first, first + clips), range(first - held_out, first))
    )
    return _train(config, EncodersObjective(config), source, validation, settings, callback)


def train_flow(settings: dict, callback: Callback | None) -> Path:
    config = build(FlowConfig, settings)
    _check_device(config.device)
    vae = load_vae(config.preview.vae, device=config.device) if config.preview.vae else None
    source, validation = features.split(config.data, config.loop.seed, vae)
    _check_widths(config.model, config.data.cache, source.sizes)
    transformer = starting_network(config, "transformer", FoleyTransformer, initialise, load_transformer)
    projector = _projector(config, source.sizes.teacher)
    sharding.shard(transformer, config.device, *([] if projector is None else [projector]))
    trainable = dict(transformer.named_parameters())
    objective = FlowObjective(config, transformer, trainable, projector, vae)
    settings = settings | {"clips": features.described(source, validation)}
    return _train(config, objective, source, validation, settings, callback)


def train_lora(settings: dict, callback: Callback | None, clips: str = "") -> Path:
    """Trains a LoRA.

    Args:
        clips: what to keep of the clips, to know whether they are others when the run goes on; empty: as the cache has them.
    """
    config = build(LoRARunConfig, settings)
    _check_device(config.device)
    vae = load_vae(config.preview.vae, device=config.device) if config.preview.vae else None
    source, validation = features.split(config.data, config.loop.seed, vae)
    transformer = load_base(config.start, config.storage, config.device)
    _check_widths(transformer.config, config.data.cache, source.sizes)
    objective = LoRAObjective(config, transformer, vae, settings)
    settings = settings | {"clips": clips or features.described(source, validation)}
    return _train(config, objective, source, validation, settings, callback)


def _train(config, objective: Objective, source: Source, validation: Source | None, settings: dict, callback) -> Path:
    return train(
        objective, source, config.loop, Path(config.out), settings=settings, validation=validation, callback=callback
    )


def _projector(config: FlowConfig, teacher: int | None) -> Projector | None:
    repa, blocks = config.repa, config.model.num_unimodal_blocks
    if not repa.weight:
        return None
    if teacher is None:
        raise TrainingError(
            f"repa.weight is {repa.weight}, and the cache {config.data.cache} has no features of a teacher.",
            "Expected both or neither.", "Make the cache with --teacher, or set repa.weight=0.",
        )
    if not 1 <= repa.block <= blocks:
        raise TrainingError(f"repa.block is {repa.block}.", f"Expected 1 to {blocks}, a unimodal block.", "Change it.")
    projector = Projector(config.model.hidden_size, repa.width, teacher)
    xavier(projector, seeded(config.loop.seed, INITIALISATION_STREAM, 1))
    return projector.to(config.device)


def _check_widths(model: TransformerConfig, cache: str, found: features.FeatureSizes) -> None:
    for name in ("latent_channels", "visual_dim", "sync_dim", "text_dim"):
        if getattr(model, name) != getattr(found, name):
            raise TrainingError(
                f"model.{name} is {getattr(model, name)}, and the cache {cache} has {getattr(found, name)}.",
                "Expected the same.", "Change it, or prepare the cache with the encoders this model is for.",
            )


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # unknown to torch, or not in this machine or build
        raise TrainingError(f"The device is {name!r}: {error}.", "Expected one that is here, such as cpu.") from error


TASKS: dict[str, Callable[[dict, Callback | None], Path]] = {
    "dac_vae": train_codec, "encoders": train_encoders, "flow": train_flow, "lora": train_lora,
}
