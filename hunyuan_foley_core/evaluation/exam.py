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
class Exam:
    """Held-out clips as the transformer gets them, encoded once for all runs.

    Attributes:
        clips: of one length.
        text, visual, sync: their features [B,T,Dt], [B,V,Dv], [B,S,Ds].
        negative_text: [1,T,Dt].
        vae: decodes what is made.
        steps: of the sampler.
    """

    clips: list[Clip]
    text: Tensor
    negative_text: Tensor
    visual: Tensor
    sync: Tensor
    vae: DACVAE
    classifier: MaterialClassifier
    steps: int

    def figures(self, transformer: FoleyTransformer, guidance_scale: float) -> dict[str, float]:
        """What is heard in the sounds that a transformer makes for the clips."""
        heard = []
        for begin in range(0, len(self.clips), BATCH):
            part = slice(begin, begin + BATCH)
            for clip, latents in zip(self.clips[part], self._sample(transformer, part, guidance_scale), strict=True):
                sound = self.vae.decode(latents[None])[0, 0].numpy()
                heard.append(hearing.listen(clip, sound, self.classifier))
        score = hearing.onset_score(heard)
        return {
            "f1": score.f1, "f1_30ms": hearing.onset_score(heard, hearing.NARROW).f1,
            "offset_ms": 1000 * score.median_offset, "material": hearing.material_accuracy(heard),
        }

    def _sample(self, transformer: FoleyTransformer, part: slice, guidance_scale: float) -> Tensor:
        channels, frames = transformer.config.latent_channels, latent_frames(self.clips[0].scene.seconds)
        noise = torch.cat([make_noise(1, channels, frames, clip.scene.seed) for clip in self.clips[part]])
        return sample(
            transformer, noise, text=self.text[part], negative_text=self.negative_text, visual=self.visual[part],
            sync=self.sync[part], steps=self.steps, guidance_scale=guidance_scale,
        )


def prepare_exam(files: ModelFiles, count: int, seconds: float, steps: int) -> Exam:
    """Draws and encodes so many clips in which something hits, of seeds that nothing was trained on."""
    clips = [take.clip() for take in first(count, seconds=seconds, where=lambda clip: bool(clip.events))]
    encoders = load_video_encoders(files, "cpu")
    seen = [_seen(clip, *encoders) for clip in clips]
    clap = checkpoint.load_clap(files.clap, files.tokenizer, dtype=torch.float32)
    prompts = [with_bandwidth_tag(clip.caption) if clip.tagged else clip.caption for clip in clips]
    text = clap.encode_text([*prompts, DEFAULT_NEGATIVE_PROMPT])[:, :TEXT_TOKENS]
    lessons = (make_clip(number, seconds) for number in range(LISTENING_SEED, LISTENING_SEED + LESSONS))
    return Exam(
        clips, text[:-1], text[-1:], torch.cat([one.visual for one in seen]), torch.cat([one.sync for one in seen]),
        checkpoint.load_vae(files.vae), MaterialClassifier(lessons), steps,
    )


def _seen(clip: Clip, siglip2, synchformer) -> VideoFeatures:
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "clip.mp4"
        write_clip(clip, video)
        return encode_video(media.stream_frames(video), siglip2, synchformer)
