"""From a folder of clips to a LoRA, without leaving ComfyUI."""

import math
import re
import shutil
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import folder_paths
import torch
from comfy_api.v0_0_2 import io

from ..hunyuan_foley_core import lora
from ..hunyuan_foley_core.errors import InputError
from ..hunyuan_foley_core.pipeline import ModelFiles
from ..hunyuan_foley_core.places import files_below
from ..hunyuan_foley_core.train import checkpoints
from ..hunyuan_foley_core.train.cache import build_cache
from ..hunyuan_foley_core.train.config import read_settings
from ..hunyuan_foley_core.train.going_on import compare
from ..hunyuan_foley_core.train.lora import PRESETS
from ..hunyuan_foley_core.train.lora_task import STORAGES
from ..hunyuan_foley_core.train.manifest import described, read_dataset
from ..hunyuan_foley_core.train.publishing import check_names, publish
from ..hunyuan_foley_core.train.shards import MARK, open_cache
from . import folders
from .loaders import BESIDE_CLAP, encoder_widgets, model_widget, vae_widget
from .messages import tell
from .sampler import MAX_SEED
from .sockets import CATEGORY, require_foley_model
from .training_view import TrainingView

RUNS, CACHE = "foley_training", "cache"  # below ComfyUI's output folder, and below each run there
PIECE_SECONDS = 8.0  # the length of the clips that the released model was trained on
CLIPS_AT_ONCE = 4  # more of a batch than this goes through the model in turns
HELD_OUT_OF = 8  # one video in so many is kept for validation and previews, at least one
WARMUP = 100  # updates


class FoleyTrainLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="FoleyTrainLoRA",
            display_name="Foley Train LoRA",
            category=CATEGORY,
            is_output_node=True,
            description="Teaches the model the sounds of a folder of clips and puts the LoRA into models/loras. Cancel "
            "keeps what was learned; the same settings go on from there. The run's checkpoints, figures and previews are "
            "in output/foley_training.",
            inputs=[
                io.String.Input(
                    "clips", default="",
                    tooltip="Folder of video clips with sound, 15 to 60 of them; what is heard goes into a .txt file of "
                    "the same name beside each. Or a manifest, .jsonl or .parquet.",
                ),
                io.String.Input(
                    "caption", multiline=True, default="",
                    tooltip="What is heard in clips that have no .txt file, in English.",
                ),
                io.String.Input("output_name", default="my_foley_lora", tooltip="Name of the LoRA, without .safetensors."),
                model_widget(), vae_widget(), *encoder_widgets(),
                io.Combo.Input(
                    "storage", options=list(STORAGES), default="as in the file",
                    tooltip="How the frozen model is kept in memory: fp8 takes half of bf16. The LoRA itself is fp32.",
                ),
                io.Combo.Input(
                    "preset", options=list(PRESETS), default="all",
                    tooltip="Which layers learn: all blocks, only the multimodal or only the unimodal ones, or only the "
                    "attention in both.",
                ),
                io.Int.Input("rank", default=64, min=1, max=1024, tooltip="Size of the LoRA, 1 to 1024; usual: 64 to 128."),
                io.Float.Input(
                    "alpha", default=64.0, min=0.01, max=4096.0, step=0.01,
                    tooltip="What is learned counts alpha / rank, 0.01 to 4096; usual: the rank.",
                ),
                io.Int.Input("steps", default=2000, min=1, max=1_000_000, tooltip="Updates in all, 1 to 1000000."),
                io.Float.Input(
                    "learning_rate", default=1e-4, min=1e-7, max=1e-1, step=1e-7, round=1e-8,
                    tooltip="Step of AdamW, 1e-7 to 0.1; usual: 0.0001.",
                ),
                io.Int.Input("batch_size", default=8, min=1, max=256, tooltip="Clips in an update, 1 to 256; usual: 8."),
                io.Float.Input(
                    "visual_dropout", default=0.4, min=0.0, max=1.0, step=0.01,
                    tooltip="How often a clip is learned without its picture, 0 to 1: 0.3 to 0.5 to learn the sound and "
                    "not who makes it, 0.1 to learn how picture and sound go together.",
                ),
                io.Int.Input(
                    "save_every", default=250, min=1, max=100_000,
                    tooltip="Updates between checkpoints, 1 to 100000; each becomes a LoRA to listen to, name_step250 "
                    "and so on.",
                ),
                io.Int.Input("seed", default=0, min=0, max=MAX_SEED, tooltip="Of everything random, 0 to 2^64 - 1."),
                io.Model.Input("model", optional=True, tooltip="Comes out with the LoRA, to listen to it at once."),
            ],
            outputs=[
                io.String.Output(display_name="lora_name", tooltip="File name of the LoRA in models/loras."),
                io.Model.Output(tooltip="The connected model with the LoRA, if one is connected."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def fingerprint_inputs(cls, clips: str, **_):
        """Changes with the clips, so that new ones are learned from."""
        place = _place(clips)
        found = (path for path in (place, *files_below(place)) if path.exists())
        return sorted((str(path), path.stat().st_mtime) for path in found)

    @classmethod
    def execute(
        cls, clips, caption, output_name, model_name, vae_name, siglip2_name, synchformer_name, clap_name, tokenizer_name,
        model=None, **chosen,
    ) -> io.NodeOutput:
        if model is not None:
            require_foley_model(model)
        node_id, run = cls.hidden.unique_id, Path(folder_paths.get_output_directory(), RUNS, _checked(output_name))
        files = _files(model_name, vae_name, siglip2_name, synchformer_name, clap_name, tokenizer_name)
        check_names(run, _loras())
        # ComfyUI runs nodes where no tensor can take part in training.
        with torch.inference_mode(False), torch.enable_grad():
            warnings = _train(clips, caption, files, run, TrainingView(node_id, run), chosen)
        path = _loras() / f"{run.name}.safetensors"
        if model is not None:
            state = lora.load(path, model.model.diffusion_model)
            model, _ = comfy.sd.load_lora_for_models(model, None, state, 1.0, 0.0)
        return io.NodeOutput(path.name, model, ui=tell(node_id, warnings))


def _files(model: str, vae: str, siglip2: str, synchformer: str, clap: str, tokenizer: str) -> ModelFiles:
    """Paths of the names that the widgets give."""
    def path(name: str, places: tuple[str, ...]) -> Path:
        return Path(folders.model_path(name, places))

    return ModelFiles(
        transformer=path(model, folders.TRANSFORMER_FOLDERS), vae=path(vae, folders.VAE_FOLDERS),
        clap=path(clap, folders.ENCODER_FOLDERS), siglip2=path(siglip2, folders.ENCODER_FOLDERS),
        synchformer=path(synchformer, folders.ENCODER_FOLDERS),
        tokenizer=None if tokenizer == BESIDE_CLAP else Path(folders.tokenizer_path(tokenizer)),
    )


def _place(clips: str) -> Path:
    """The folder or manifest; ComfyUI's input folder is where relative paths begin.

    Windows copies a path with quotes around it.
    """
    path = clips.strip().strip('"').strip()
    if not path:
        raise InputError("No folder of clips was given.", "Expected its path.", "Type it into `clips`.")
    return Path(folder_paths.get_input_directory(), path)


def _checked(name: str) -> str:
    """The name, if it can be a file's."""
    if not re.fullmatch(r"\w[\w .+-]*", name):
        raise InputError(
            f"The output name is {name!r}.", "Expected letters, digits, spaces and . _ + - alone.", "Choose another."
        )
    return name.removesuffix(".safetensors")


def _train(clips: str, caption: str, files: ModelFiles, run: Path, view: TrainingView, chosen: dict) -> list[str]:
    """Encodes the clips, trains, and puts the LoRAs where ComfyUI looks for them; returns what to tell the user."""
    from ..hunyuan_foley_core.train.tasks import train_lora  # here: half of the pack's import time, and few train

    dataset = read_dataset(_place(clips), caption)
    device = comfy.model_management.get_torch_device()
    settings, entries = _settings(files, run, device, **chosen), described(dataset.entries)
    told = _going_on(run, settings | {"clips": entries})
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
    _forget_others(run / CACHE, {str(entry.video.resolve()) for entry in dataset.entries})
    try:
        report = build_cache(
            dataset.entries, files, run / CACHE, device=str(device), seconds=PIECE_SECONDS,
            renew=not checkpoints.found(run), callback=view.preparing,
        )
        settings["data"]["held_out"] = _held_out(run / CACHE)
        train_lora(settings, view.training, entries)
    finally:
        publish(run, _loras())
        comfy.model_management.soft_empty_cache()
    skipped = [f"Left out {clip}: {reason}" for clip, reason in [*dataset.skipped, *report.skipped]]
    return [*told, *dataset.warnings, *report.warnings, *skipped]


def _going_on(run: Path, settings: dict) -> list[str]:
    """What to say of settings that changed since the newest checkpoint; refuses them where they would do nothing."""
    written = checkpoints.found(run)
    if not written:
        return []
    state = checkpoints.load(written[-1], mmap=True)
    told = compare(state["settings"], settings, run=run, done=state["step"], steps=settings["loop"]["steps"])
    return [told] if told else []


def _forget_others(cache: Path, videos: set[str]) -> None:
    """Removes a cache with clips that are no longer asked for; encoding the others again takes minutes at most."""
    if (cache / MARK).is_file() and any(record.video not in videos for record, _ in open_cache(cache).clips.values()):
        shutil.rmtree(cache)


def _settings(
    files: ModelFiles, run: Path, device: torch.device, *,
    storage, preset, rank, alpha, steps, learning_rate, batch_size, visual_dropout, save_every, seed,
) -> dict:
    """The shipped configuration with the node's values in it, but for how many videos are held out of those in the cache."""
    from ..hunyuan_foley_core.train.command import CONFIGS

    settings = read_settings(CONFIGS / "lora_xxl.toml")
    at_once = math.gcd(batch_size, CLIPS_AT_ONCE)
    precision = "bf16" if comfy.model_management.should_use_bf16(device) else "fp32"
    settings |= {
        "out": str(run), "device": str(device), "start": str(files.transformer), "storage": storage, "precision": precision,
    }
    settings["lora"] |= {"preset": preset, "rank": rank, "alpha": alpha}
    del settings["data"]["held_out"]
    settings["data"] |= {"cache": str(run / CACHE), "batch": at_once}
    settings["objective"] |= {"visual_dropout": visual_dropout}
    settings["preview"] |= {"vae": str(files.vae)}
    settings["optimiser"] |= {"learning_rate": learning_rate}
    settings["loop"] |= {
        "steps": steps, "accumulate": batch_size // at_once, "warmup_steps": min(WARMUP, steps // 10), "log_every": 1,
        "validate_every": save_every, "save_every": save_every, "keep": steps, "seed": seed,
    }
    return settings


def _held_out(cache: Path) -> int:
    videos = len({record.video for record, _ in open_cache(cache).clips.values()})
    return max(videos // HELD_OUT_OF, min(videos - 1, 1))


def _loras() -> Path:
    return Path(folder_paths.get_folder_paths("loras")[0])
