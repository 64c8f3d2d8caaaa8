"""The networks of several generations, each loaded when it is first needed and kept."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from . import media
from .conditions import VideoFeatures, encode_scenes, filled, latent_cut
from .pipeline import Loader, ModelFiles, Progress, Settings, texts_of
from .sampling import make_noise, sample
from .start import FROM_NOISE, Start
from .timed_prompts import TimedPrompt
from .timing import latent_frames
from .windows import PICTURE_LATENTS, plan_windows


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
        self, video: str | Path, start: float, seconds: float | None, report: media.DecodeReport | None = None, *,
        cuts: Sequence[float] = (), hold: bool = False,
    ) -> VideoFeatures:
        """Features of at most `seconds` of a video (None: all) from `start` on. MediaError if none has a picture.

        Args:
            cuts: seconds at which scenes begin, from `kept_cuts`.
            hold: whether the last picture is held where the video ends before `seconds` do.
        """
        total = seconds or media.probe(video).duration or 0.0

        def between(begin: float, duration: float | None):
            limit = seconds and seconds - begin
            frames = media.stream_frames(video, start=start + begin, duration=duration, max_seconds=limit, report=report)
            if not hold or duration is not None:
                return frames
            return filled(frames, (latent_frames(seconds) - latent_cut(begin)) // PICTURE_LATENTS)

        return encode_scenes(
            between, cuts, *self._loader.video_encoders(),
            callback=lambda done: self._progress("watching the video", done, max(done, total)),
        )

    def make(
        self, prompt: str, negative_prompt: str, features: VideoFeatures | None, latent_frames: int, *, seed: int,
        start: Start = FROM_NOISE, stage: str = "making the sound", margin: int = 0, timed: Sequence[TimedPrompt] = (),
        cuts: Sequence[int] = (),
    ) -> Tensor:
        """Latents [1, C, L]; `start` and `margin` as for `sample`.

        Args:
            timed: prompts that hold for a part; `prompt` then holds elsewhere.
            cuts: latent frames at which the scenes begin that they are numbered by.
        """
        settings = replace(self.settings, prompt=prompt, negative_prompt=negative_prompt, timed_prompts=tuple(timed))
        transformer, scenes = self._loader.transformer(), features.cuts if features is not None else ()
        text, negative_text = texts_of(self._loader, settings, latent_frames, cuts, features is not None)
        noise = make_noise(1, transformer.config.latent_channels, latent_frames, seed)
        return sample(
            transformer, noise.to(settings.device, settings.dtype), text=text, negative_text=negative_text,
            visual=features and features.visual, sync=features and features.sync, **settings.for_sample(),
            start=start, windows=plan_windows(latent_frames + 2 * margin, transformer.windows, scenes), margin=margin,
            callback=lambda step, steps, _: self._progress(stage, step, steps),
        )

    def encode(self, waveform: Tensor) -> Tensor:
        """The codec's latents [B, C, L] of [B, 1, N] at 48 kHz."""
        return self._loader.vae().encode(waveform, callback=self._stage("listening"))[0]

    def decode(self, latents: Tensor) -> Tensor:
        """[B, C, L] -> [B, 1, L * 960] at 48 kHz, on the CPU."""
        return self._loader.vae().decode(latents, callback=self._stage("decoding"), output_device="cpu")

    def _stage(self, name: str):
        return lambda done, total: self._progress(name, done, total)
