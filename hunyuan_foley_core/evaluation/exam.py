"""Held-out clips for runs of the ablation: encoded once, sampled by every transformer, listened to."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .. import checkpoint, media
from ..conditions import DEFAULT_NEGATIVE_PROMPT, VideoFeatures, encode_video, with_bandwidth_tag
from ..data import Clip, make_clip, write_clip
from ..data.listening import MaterialClassifier
from ..model import FoleyTransformer
from ..pipeline import ModelFiles, load_video_encoders
from ..sampling import make_noise, sample
from ..timing import TEXT_TOKENS, latent_frames
from ..vae.dac import DACVAE
from . import hearing
from .takes import LISTENING_SEED, first

BATCH = 10  # clips sampled together
LESSONS = 200  # true sounds that the judge of materials learns from


@dataclass(frozen=True)
class Questions:
    """Held-out clips of one length as a transformer gets them.

    Attributes:
        frames: of the latents, as many as the picture calls for.
        text, visual, sync: features [B,T,Dt], [B,V,Dv], [B,S,Ds].
        negative_text: [1,T,Dt].
    """

    clips: list[Clip]
    frames: int
    text: Tensor
    negative_text: Tensor
    visual: Tensor
    sync: Tensor

    def noise(self, channels: int) -> Tensor:
        """What each clip's sound begins with [B,C,L]."""
        return torch.cat([make_noise(1, channels, self.frames, clip.scene.seed) for clip in self.clips])


@dataclass(frozen=True)
class Exam:
    """Questions encoded once for all runs, and what listens to the answers.

    Attributes:
        vae: decodes what is made.
        steps: of the sampler.
    """

    questions: Questions
    vae: DACVAE
    classifier: MaterialClassifier
    steps: int

    def figures(self, transformer: FoleyTransformer, guidance_scale: float) -> dict[str, float]:
        """What is heard in the sounds that a transformer makes for the clips."""
        heard, clips = [], self.questions.clips
        noise = self.questions.noise(transformer.config.latent_channels)
        for begin in range(0, len(clips), BATCH):
            part = slice(begin, begin + BATCH)
            answers = self._sample(transformer, noise[part], part, guidance_scale)
            for clip, latents in zip(clips[part], answers, strict=True):
                sound = self.vae.decode(latents[None])[0, 0].numpy()
                heard.append(hearing.listen(clip, sound, self.classifier))
        score = hearing.onset_score(heard)
        return {
            "f1": score.f1, "f1_30ms": hearing.onset_score(heard, hearing.NARROW).f1,
            "offset_ms": 1000 * score.median_offset, "material": hearing.material_accuracy(heard),
        }

    def _sample(self, transformer: FoleyTransformer, noise: Tensor, part: slice, guidance_scale: float) -> Tensor:
        asked = self.questions
        return sample(
            transformer, noise, text=asked.text[part], negative_text=asked.negative_text, visual=asked.visual[part],
            sync=asked.sync[part], steps=self.steps, guidance_scale=guidance_scale,
        )


def prepare_exam(files: ModelFiles, count: int, seconds: float, steps: int) -> Exam:
    """An exam of so many clips."""
    lessons = (make_clip(number, seconds) for number in range(LISTENING_SEED, LISTENING_SEED + LESSONS))
    return Exam(
        questions(files, count, seconds), checkpoint.load_vae(files.vae), MaterialClassifier(lessons), steps
    )


def questions(files: ModelFiles, count: int, seconds: float) -> Questions:
    """Draws and encodes so many clips in which something hits, of seeds that nothing was trained on."""
    clips = [take.clip() for take in first(count, seconds=seconds, where=lambda clip: bool(clip.events))]
    encoders = load_video_encoders(files, "cpu")
    seen = [_seen(clip, *encoders) for clip in clips]
    clap = checkpoint.load_clap(files.clap, files.tokenizer, dtype=torch.float32)
    prompts = [with_bandwidth_tag(clip.caption) if clip.tagged else clip.caption for clip in clips]
    text = clap.encode_text([*prompts, DEFAULT_NEGATIVE_PROMPT])[:, :TEXT_TOKENS]
    visual, sync = (torch.cat([getattr(one, name) for one in seen]) for name in ("visual", "sync"))
    return Questions(clips, latent_frames(seen[0].seconds), text[:-1], text[-1:], visual, sync)


def _seen(clip: Clip, siglip2, synchformer) -> VideoFeatures:
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_clip(clip, video)
        return encode_video(media.stream_frames(video), siglip2, synchformer)
