"""`train CONFIG [key=value ...]`: from a file of settings to a trained network."""

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from .config import build, read_settings
from .dac_vae import CodecConfig, CodecObjective
from .encoders import EncodersConfig, EncodersObjective, learn_tokenizer
from .errors import TrainingError
from .loop import Callback, train
from .sounds import split
from .world_clips import WorldClips, captions

CONFIGS = Path(__file__).parent / "configs"


def run(config_file: str, overrides: list[str], callback: Callback | None = None) -> Path:
    """Runs the training a file describes; returns the folder of the last checkpoint.

    Args:
        config_file: a path, or the name of one of `configs/` without its suffix.
        overrides: `section.key=value` words laid over the file.

    Raises:
        TrainingError: settings or data that do not fit, or a run that cannot go on.
    """
    shipped = CONFIGS / f"{config_file}.toml"
    settings = read_settings(shipped if shipped.is_file() else Path(config_file), overrides)
    task = settings.get("task")
    if task not in TASKS:
        raise TrainingError(f"The task is {task!r}.", f"Known are {', '.join(TASKS)}.", "Set `task` in the file.")
    return TASKS[task](settings, callback)


def train_codec(settings: dict, callback: Callback | None) -> Path:
    config = build(CodecConfig, settings)
    _check_device(config.device)
    source, validation = split(config.data, config.model.hop, config.loop.seed)
    return train(
        CodecObjective(config), source, config.loop, Path(config.out),
        settings=settings, validation=validation, callback=callback,
    )


def train_encoders(settings: dict, callback: Callback | None) -> Path:
    config = build(EncodersConfig, settings)
    _check_device(config.device)
    first, clips, held_out = config.data.first_seed, config.data.clips, config.data.held_out
    tokenizer = Path(config.tokenizer)
    if not tokenizer.is_file():
        tokenizer.parent.mkdir(parents=True, exist_ok=True)
        learn_tokenizer(captions(range(first, first + clips)), config.model.clap.vocabulary).save(str(tokenizer))
    sizes = (config.model.siglip2.image_size, config.model.synchformer.image_size)
    source, validation = (
        WorldClips(seeds, config.data.seconds, config.data.batch, sizes)
        for seeds in (range(first, first + clips), range(first - held_out, first))
    )
    return train(
        EncodersObjective(config), source, config.loop, Path(config.out),
        settings=settings, validation=validation, callback=callback,
    )


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # unknown to torch, or not in this machine or build
        raise TrainingError(f"The device is {name!r}: {error}.", "Expected one that is here, such as cpu.") from error


TASKS: dict[str, Callable[[dict, Callback | None], Path]] = {"dac_vae": train_codec, "encoders": train_encoders}


class ProgressLine:
    """Update, share and losses on stderr: one line rewritten in place on a terminal, one per record elsewhere."""

    def __init__(self):
        self.live, self.shown = sys.stderr.isatty(), None

    def __call__(self, done: int, of: int, figures: dict[str, float]) -> None:
        if not self.live and figures == self.shown:
            return
        self.shown = figures
        losses = "  ".join(f"{name} {value:.4g}" for name, value in figures.items() if name.endswith(".loss"))
        line = f"{done}/{of} {done / of:4.0%}  {losses}"
        sys.stderr.write(f"\r{line}" if self.live else f"{line}\n")
        sys.stderr.flush()

    def close(self) -> None:
        if self.live:
            sys.stderr.write("\n")
