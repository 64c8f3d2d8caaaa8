"""The networks of several generations, each loaded when it is first needed and kept.

`pipeline.generate` makes one sound with one network in memory at a time; here there are many sounds to make.
"""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoint, lora, media
from .conditions import VideoFeatures, encode_text_pair, encode_video
from .pipeline import ModelFiles, Progress, Settings, load_video_encoders
from .sampling import make_noise, sample
from .start import FROM_NOISE, Start


class Networks:
    """A `Codec`, and a way to make latents.

    Args:
        settings: everything but prompts, seed and length, which come with each sound.
        progress: told of each stage; raising cancels.
    """

    def __init__(self, files: ModelFiles, settings: Settings, progress: Progress | None = None):
        self.files, self.settings, self._progress = files, settings, progress or (lambda stage, done, total: None)

    @cached_property
    def transformer(self):
        transformer = checkpoint.load_transformer(self.files.transformer, device=self.settings.device)
        if self.settings.lora is not None:
            lora.merge(transformer, lora.load(self.settings.lora, transformer), self.settings.lora_strength)
        return transformer

    @cached_property
    def vae(self):
        return checkpoint.load_vae(self.files.vae, device=self.settings.device)

    @cached_property
    def _clap(self):
        files, where = self.files, dict(dtype=torch.float32, device=self.settings.device)
        return checkpoint.load_clap(files.clap, files.tokenizer, **where)

    @cached_property
    def _video_encoders(self):
        return load_video_encoders(self.files, self.settings.device)

    def watch(
        self, video: str | Path, start: float, seconds: float, report: media.DecodeReport | None = None
    ) -> VideoFeatures:
        """Features of at most `seconds` of a video from `start` on. MediaError if it has no picture there."""
        frames = media.stream_frames(video, start=start, max_seconds=seconds, report=report)
        return encode_video(
            frames, *self._video_encoders,
            callback=lambda done: self._progress("watching the video", min(done, seconds), seconds),
        )

    def make(
        self, prompt: str, negative_prompt: str, features: VideoFeatures | None, latent_frames: int, *, seed: int,
        takes: int = 1, first_take: int = 0, start: Start = FROM_NOISE, stage: str = "making the sound", **how,
    ) -> Tensor:
        """Latents [takes, C, L], the takes from `first_take` on of a seed; `how` are further arguments of `sample`."""
        text, negative_text = encode_text_pair(self._clap, prompt, negative_prompt, tag=self.settings.tag)
        noise = make_noise(takes, self.transformer.config.latent_channels, latent_frames, seed, first_take)
        settings = self.settings
        return sample(
            self.transformer, noise.to(settings.device, settings.dtype), text=text, negative_text=negative_text,
            visual=features and features.visual, sync=features and features.sync, steps=settings.steps,
            guidance_scale=settings.guidance_scale, shift=settings.shift, guidance_interval=settings.guidance_interval,
            start=start, callback=lambda step, steps, _: self._progress(stage, step, steps), **how,
        )

    def encode(self, waveform: Tensor) -> Tensor:
        return self.vae.encode(waveform, callback=lambda done, total: self._progress("listening", done, total))[0]

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(
            latents, callback=lambda done, total: self._progress("decoding", done, total), output_device="cpu"
        )
