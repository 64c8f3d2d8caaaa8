"""The networks of several generations, each loaded when it is first needed and kept."""

from pathlib import Path

from torch import Tensor

from . import media
from .conditions import VideoFeatures, encode_text_pair, encode_video
from .pipeline import Loader, ModelFiles, Progress, Settings
from .sampling import make_noise, sample
from .start import FROM_NOISE, Start


class Networks:
    """A `Codec`, and a way to make latents.

    Args:
        settings: everything but prompts, seed and length, which come with each sound.
        progress: told of each stage; raising cancels.
    """

    def __init__(self, files: ModelFiles, settings: Settings, progress: Progress | None = None):
        self.files, self.settings, self._loader = files, settings, Loader(files, settings, keep=True)
        self._progress = progress or (lambda stage, done, total: None)

    def watch(
        self, video: str | Path, start: float, seconds: float | None, report: media.DecodeReport | None = None
    ) -> VideoFeatures:
        """Features of at most `seconds` of a video (None: all) from `start` on. MediaError if none has a picture."""
        total = seconds or media.probe(video).duration or 0.0
        frames = media.stream_frames(video, start=start, max_seconds=seconds, report=report)
        return encode_video(
            frames, *self._loader.video_encoders(),
            callback=lambda done: self._progress("watching the video", done, max(done, total)),
        )

    def make(
        self, prompt: str, negative_prompt: str, features: VideoFeatures | None, latent_frames: int, *, seed: int,
        start: Start = FROM_NOISE, stage: str = "making the sound", margin: int = 0,
    ) -> Tensor:
        """Latents [1, C, L]; `start` and `margin` as for `sample`."""
        settings, transformer = self.settings, self._loader.transformer()
        text, negative_text = encode_text_pair(self._loader.clap(), prompt, negative_prompt, tag=settings.tag)
        noise = make_noise(1, transformer.config.latent_channels, latent_frames, seed)
        return sample(
            transformer, noise.to(settings.device, settings.dtype), text=text, negative_text=negative_text,
            visual=features and features.visual, sync=features and features.sync, **settings.for_sample(),
            start=start, margin=margin, callback=lambda step, steps, _: self._progress(stage, step, steps),
        )

    def encode(self, waveform: Tensor) -> Tensor:
        """The codec's latents [B, C, L] of [B, 1, N] at 48 kHz."""
        return self._loader.vae().encode(waveform, callback=self._stage("listening"))[0]

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, L] -> [B, 1, L * 960] at 48 kHz, on the CPU."""
        return self._loader.vae().decode(latents, callback=self._stage("decoding"), output_device="cpu")

    def _stage(self, name: str):
        return lambda done, total: self._progress(name, done, total)
