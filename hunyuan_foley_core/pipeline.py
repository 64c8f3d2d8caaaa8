"""The whole way from a silent video and a prompt to a waveform, one network in memory at a time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Callable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import checkpoint, lora, media
from .conditions import DEFAULT_NEGATIVE_PROMPT, VideoFeatures, encode_scenes, encode_texts
from .encoders.siglip2 import SigLIP2VisionTower
from .encoders.synchformer import SynchformerVisualTower
from .errors import CheckpointError, InputError, MissingFileError, SeveralFilesError
from .places import files_below
from .sampling import WHOLE_INTERVAL, GuidanceInterval, check_interval, make_noise, sample
from .scenes import decode_scenes, kept_cuts
from .timed_prompts import TimedPrompt, complete, elsewhere, prompt_weights
from .timing import LATENT_RATE, latent_frames
from .velocity import Texts, TimedText
from .windows import plan_windows

Progress = Callable[[str, float, float], None]  # (stage, done, total); raising cancels

DEFAULT_SECONDS = 8.0
FIELDS = {
    checkpoint.TRANSFORMER: "transformer", checkpoint.VAE: "vae", checkpoint.CLAP: "clap",
    checkpoint.SIGLIP2: "siglip2", checkpoint.SYNCHFORMER: "synchformer",
}


@dataclass(frozen=True)
class ModelFiles:
    """Where the weights are. The video encoders are only needed for a video; the tokenizer may lie beside `clap`."""

    transformer: Path
    vae: Path
    clap: Path
    siglip2: Path | None = None
    synchformer: Path | None = None
    tokenizer: Path | None = None


@dataclass(frozen=True)
class Settings:
    """How to generate. Defaults are the published ones.

    Attributes:
        prompt: with timed prompts, what is heard at all other times.
        timed_prompts: prompts that hold for a part of the clip.
        cuts: seconds at which scenes of the video begin; each scene is made for itself.
        windows: length and overlap of the windows of a long clip, in seconds; None: as the transformer's weights want it.
        seconds: length without a video, or the most to read of a video; None: 8 s, or all of the video.
        guidance_interval: (high, low) noise levels between which guidance works.
        seed, first_take, takes: how many sounds to make at once, and from which on of those that the seed has: a take is
            the same in any batch (see `make_noise`).
        tag: whether the prompt asks for wide-band sound.
        device, dtype: where and in what type the transformer computes.
        lora, lora_strength: a LoRA file to merge into it, and how much of it.
    """

    prompt: str = ""
    negative_prompt: str = DEFAULT_NEGATIVE_PROMPT
    timed_prompts: tuple[TimedPrompt, ...] = ()
    cuts: tuple[float, ...] = ()
    windows: tuple[float | None, float | None] | None = None
    seconds: float | None = None
    steps: int = 50
    guidance_scale: float = 4.5
    guidance_interval: GuidanceInterval = WHOLE_INTERVAL
    shift: float = 1.0
    seed: int = 0
    first_take: int = 0
    takes: int = 1
    tag: bool = True
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    lora: Path | None = None
    lora_strength: float = 1.0

    def for_sample(self) -> dict[str, Any]:
        """Those that `sampling.sample` takes as they are."""
        names = ("steps", "guidance_scale", "shift", "guidance_interval")
        return {name: getattr(self, name) for name in names}


def _keys(path: Path) -> list[str]:
    """Keys of a weight file, without reading its tensors where the format allows; empty for files we cannot read."""
    try:
        if path.suffix.lower() in (".safetensors", ".sft"):
            with safe_open(str(path), framework="pt") as file:
                return list(file.keys())
        return list(checkpoint.read_state_dict(path)[0])
    except (CheckpointError, SafetensorError, OSError):
        return []


def find_model_files(folder: str | Path, *, optional: tuple[str, ...] = (), **chosen: str | Path | None) -> ModelFiles:
    """Finds each network under a folder by what the files hold, whatever they are called.

    Args:
        folder: searched with its subfolders.
        optional: fields of `ModelFiles` that the caller does without; None where nothing is found.
        chosen: paths by field of `ModelFiles` that are taken as they are.

    Raises:
        CheckpointError: a network is missing, or two files could serve and none was chosen.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MissingFileError(f"There is no folder {folder}.", "Expected the one with the model files.")
    for path in filter(None, chosen.values()):
        if not Path(path).is_file():
            raise MissingFileError(f"There is no file {path}.", "Expected a model file.", "Check the folder and the name.")
    found: dict[str, list[Path]] = {}
    files = files_below(folder)
    for path in (path for path in files if path.suffix.lower() in checkpoint.SUFFIXES):
        component = checkpoint.identify(_keys(path))
        if component is not None:
            found.setdefault(FIELDS[component], []).append(path)
    found["tokenizer"] = [path for path in files if path.name == checkpoint.TOKENIZER_FILE]
    return ModelFiles(**{
        field.name: Path(chosen[field.name])
        if chosen.get(field.name) else _only(field, found.get(field.name, []), folder, optional)
        for field in fields(ModelFiles)
    })


def _only(field, paths: list[Path], folder: Path, optional: tuple[str, ...]) -> Path | None:
    if len(paths) == 1:
        return paths[0]
    if field.name in (*optional, "tokenizer"):  # several encoders may bring theirs; CLAP's lies beside its weights
        return None
    if paths:
        raise SeveralFilesError(
            f"{len(paths)} files under {folder} hold the {field.name}: {', '.join(path.name for path in paths)}.",
            "Expected one.",
            f"Choose it with --{field.name} FILE.",
        )
    if field.default is None:
        return None
    raise MissingFileError(
        f"No file under {folder} holds the {field.name}.", "Expected the released weights or a conversion of them.",
        "`python -m hunyuan_foley_core doctor` tells what is there and how to get the rest.",
    )


def _stage(progress: Progress | None, name: str) -> Callable[[float, float], None]:
    return lambda done, total: progress(name, done, total) if progress is not None else None


def load_video_encoders(files: ModelFiles, device: str) -> tuple[SigLIP2VisionTower, SynchformerVisualTower]:
    """Both in float32. CheckpointError if one is missing or damaged."""
    if files.siglip2 is None or files.synchformer is None:
        raise MissingFileError(
            "The SigLIP2 or the Synchformer weights are missing.", "Expected both, to see the video.",
            "`python -m hunyuan_foley_core doctor` tells what is there and how to get the rest.",
        )
    siglip2 = checkpoint.load_siglip2(files.siglip2, dtype=torch.float32, device=device)
    return siglip2, checkpoint.load_synchformer(files.synchformer, dtype=torch.float32, device=device)


class Loader:
    """Reads networks from their files when they are asked for.

    Args:
        settings: device, and the LoRA of the transformer.
        keep: whether each stays for the next sound; else it is let go after use, one in memory at a time.
    """

    def __init__(self, files: ModelFiles, settings: Settings, keep: bool = False):
        self.files, self.settings, self.keep, self._kept = files, settings, keep, {}

    def video_encoders(self) -> tuple[SigLIP2VisionTower, SynchformerVisualTower]:
        return self._network("video encoders", lambda: load_video_encoders(self.files, self.settings.device))

    def clap(self):
        files, where = self.files, {"dtype": torch.float32, "device": self.settings.device}
        return self._network("clap", lambda: checkpoint.load_clap(files.clap, files.tokenizer, **where))

    def transformer(self):
        return self._network("transformer", self._load_transformer)

    def vae(self):
        where = {"dtype": torch.float32, "device": self.settings.device}
        return self._network("vae", lambda: checkpoint.load_vae(self.files.vae, **where))

    def _load_transformer(self):
        transformer = checkpoint.load_transformer(self.files.transformer, device=self.settings.device)
        if self.settings.lora is not None:
            lora.merge(transformer, lora.load(self.settings.lora, transformer), self.settings.lora_strength)
        return transformer

    def _network(self, name: str, load: Callable):
        network = self._kept[name] if name in self._kept else load()
        if self.keep:
            self._kept[name] = network
        return network


def _video_features(
    loader: Loader, settings: Settings, video: str | Path, progress: Progress | None, report: media.DecodeReport | None
) -> VideoFeatures:
    limit, length = settings.seconds, media.probe(video).duration
    if settings.cuts or length is None:  # only then is it worth reading all of the file
        length = media.picture_length(video)
    total = min((seconds for seconds in (limit, length) if seconds is not None), default=math.inf)
    siglip2, synchformer = loader.video_encoders()
    advance = _stage(progress, "watching the video")
    return encode_scenes(
        lambda start, duration: media.stream_frames(
            video, start=start, duration=duration, max_seconds=limit and limit - start, report=report
        ),
        kept_cuts(settings.cuts, length, limit), siglip2, synchformer,
        callback=lambda seconds: advance(min(seconds, total), total),
    )


def texts_of(
    loader: Loader, settings: Settings, frames: int, cuts: Sequence[int], has_picture: bool
) -> tuple[Texts, Tensor]:
    """Features of the prompt, or of all timed ones, and of the negative prompt; frames and cuts are latent frames."""
    encode = partial(encode_texts, loader.clap(), negative_prompt=settings.negative_prompt, tag=settings.tag)
    if not settings.timed_prompts:
        (text,), negative_text = encode([settings.prompt])
        return text, negative_text
    prompts = complete(settings.timed_prompts, settings.prompt or elsewhere(has_picture))
    weights = prompt_weights(prompts, frames, cuts)
    texts, negative_text = encode([prompt.text for prompt in prompts])
    return [TimedText(text, share) for text, share in zip(texts, weights, strict=True)], negative_text


def _latents(loader: Loader, settings: Settings, video: VideoFeatures | None, progress: Progress | None) -> Tensor:
    frames = latent_frames(video.seconds if video is not None else settings.seconds or DEFAULT_SECONDS)
    cuts = video.cuts if video is not None else ()
    text, negative_text = texts_of(loader, settings, frames, cuts, video is not None)
    transformer = loader.transformer()
    noise = make_noise(settings.takes, transformer.config.latent_channels, frames, settings.seed, settings.first_take)
    advance = _stage(progress, "making the sound")
    return sample(
        transformer,
        noise.to(settings.device, settings.dtype),
        text=text,
        negative_text=negative_text,
        visual=video.visual if video is not None else None,
        sync=video.sync if video is not None else None,
        **settings.for_sample(),
        windows=plan_windows(frames, transformer.windows.changed(*settings.windows or (None, None)), cuts),
        callback=lambda step, steps, _: advance(step, steps),
    )


def check_seconds(seconds: float) -> None:
    """InputError unless a sound can be so long: one latent frame or more."""
    if not 1 / LATENT_RATE <= seconds < math.inf:
        raise InputError(f"The sound is to be {seconds:g} s long.", f"Expected {1 / LATENT_RATE:g} s or more.", "Change that.")


def check_scenes(cuts: Sequence[float], video: str | Path | None) -> None:
    """Raises InputError for cuts without a video."""
    if cuts and video is None:
        raise InputError("There are cuts and no video.", "Expected a video that has them.", "Give prompts times instead.")


def generate_takes(
    files: ModelFiles,
    settings: Settings,
    video: str | Path | None = None,
    progress: Progress | None = None,
    report: media.DecodeReport | None = None,
    loader: Loader | None = None,
) -> Tensor:
    """Sounds for a video, or for a prompt alone, from one encoding of both.

    Args:
        report: receives warnings about a video that was only partly readable.
        loader: where the networks come from, for many sounds in a row; None reads each from its file and lets it go.

    Returns:
        Waveforms [takes, 1, N], float32, 48 kHz, as long as the chosen frames of the video (or `settings.seconds`).

    Raises:
        FoleyError: a file, the video or a setting is not right; the message says which and what to do.
    """
    if settings.seconds is not None:
        check_seconds(settings.seconds)
    if settings.takes < 1 or settings.first_take < 0:
        raise InputError(
            f"{settings.takes} takes from take {settings.first_take} on were asked for.",
            "Expected 1 or more, from 0 or a later one on.",
        )
    check_interval(settings.guidance_interval)
    check_scenes(settings.cuts, video)
    loader = loader or Loader(files, settings)
    features = _video_features(loader, settings, video, progress, report) if video is not None else None
    latents = _latents(loader, settings, features, progress)
    decode = partial(loader.vae().decode, callback=_stage(progress, "decoding"), output_device="cpu")
    return decode_scenes(decode, latents, features.cuts if features is not None else ())


def generate(*args, **kwargs) -> Tensor:
    """The first of `generate_takes`, a waveform [1, N]."""
    return generate_takes(*args, **kwargs)[0]
