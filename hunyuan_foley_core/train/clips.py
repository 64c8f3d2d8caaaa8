"""A clip as the transformer learns it: latents, features, bandwidth, by the very functions that inference uses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import checkpoint, media
from ..conditions import encode_video, with_bandwidth_tag
from ..encoders.clap import ClapTextEncoder
from ..encoders.siglip2 import SigLIP2VisionTower
from ..encoders.synchformer import SynchformerVisualTower
from ..encoders.tokenizer import PAD_ID
from ..errors import MediaError
from ..pipeline import ModelFiles, load_video_encoders
from ..timing import LATENT_HOP, SAMPLE_RATE, SEGMENT_FRAMES, SYNC_RATE, TEXT_TOKENS, latent_frames, samples
from ..vae import DACVAE
from .bandwidth import WIDE_BAND, bandwidth
from .manifest import Entry
from .shards import Identity, digest, digest_file
from .spectral_latents import SpectralLatents

LEAST_LOGVAR = -30.0  # of latents that are exact: the least that a DAC-VAE gives
SILENCE = 1e-4  # peak amplitude (-80 dB of full scale) below which there is nothing to learn


@dataclass(frozen=True)
class Encoders:
    """The frozen networks.

    Attributes:
        tokenizer: the file that `clap` has its tokenizer from.
        teacher: of `train.teachers`, or None.
        spectral: makes the latents in place of `vae`; None: `vae` does.
    """

    vae: DACVAE
    clap: ClapTextEncoder
    tokenizer: Path
    siglip2: SigLIP2VisionTower
    synchformer: SynchformerVisualTower
    teacher: Any | None
    spectral: SpectralLatents | None = None

    def latents(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logvar [B,C,L] of waveforms [B,1,N], N a multiple of the hop."""
        if self.spectral is None:
            return self.vae.encode(waveform)
        mean = self.spectral(waveform)
        return mean, torch.full_like(mean, LEAST_LOGVAR)


@dataclass(frozen=True)
class Encoded:
    """A clip's tensors by name, without batch dimension, and what `shards.Record` says of it."""

    tensors: dict[str, Tensor]
    caption: str
    bandwidth: float
    tokens: int


def load_encoders(files: ModelFiles, teacher: Any | None, device: str, spectral: bool = False) -> Encoders:
    """All networks in float32 on `device`, as inference has them.

    Args:
        spectral: take `SpectralLatents` for the latents.

    Raises:
        CheckpointError: a file is missing or damaged, the tokenizer included.
    """
    siglip2, synchformer = load_video_encoders(files, device)
    clap = checkpoint.load_clap(files.clap, files.tokenizer, dtype=torch.float32, device=device)
    clap.encode_text([""])  # complains now if it has no tokenizer, not after the first video
    tokenizer = files.tokenizer or files.clap.with_name(checkpoint.TOKENIZER_FILE)
    vae = checkpoint.load_vae(files.vae, device=device)
    latents = SpectralLatents(vae.config.latent_channels) if spectral else None
    return Encoders(vae, clap, tokenizer, siglip2, synchformer, teacher, latents)


def identity(encoders: Encoders) -> Identity:
    """What a cache of these networks' features depends on."""
    return {
        "vae": vae_digest(encoders.vae) if encoders.spectral is None else encoders.spectral.name,
        "clap": digest(encoders.clap.state_dict()),
        "tokenizer": digest_file(encoders.tokenizer),
        "siglip2": digest(encoders.siglip2.state_dict()),
        "synchformer": digest(encoders.synchformer.state_dict()),
        "teacher": getattr(encoders.teacher, "name", "none"),
    }


def vae_digest(vae: DACVAE) -> str:
    """Of the part that makes latents: a decoder may be trained further without making a cache useless."""
    weights = {name: weight for name, weight in vae.state_dict().items() if name.startswith(("encoder.", "quant_conv."))}
    return digest(weights)


@torch.inference_mode()
def encode_clip(encoders: Encoders, entry: Entry, start: float, seconds: float, report: media.DecodeReport) -> Encoded:
    """Encodes up to `seconds` of a clip from `start` on: as much as has both picture and sound, in whole latent frames.

    Raises:
        MediaError: a file is damaged, or too little of it is there or can be heard.
        InputError: the sound is not finite, or the caption longer than the text encoder takes.
    """
    waveform = _sound(entry.audio, start, seconds, report)
    frames = media.stream_frames(entry.video, start=start, duration=_common_seconds(waveform, entry), report=report)
    video = encode_video(frames, encoders.siglip2, encoders.synchformer)
    length = latent_frames(video.seconds) * LATENT_HOP
    if video.seconds * SYNC_RATE < SEGMENT_FRAMES:
        raise _too_short(entry.video.name, video.seconds, "picture")
    waveform = F.pad(waveform, (0, max(0, length - waveform.shape[-1])))[:, :length]
    mean, logvar = encoders.latents(waveform[None])
    reach = bandwidth(waveform)
    caption = with_bandwidth_tag(entry.caption) if reach > WIDE_BAND else entry.caption
    text, tokens = encode_caption(encoders.clap, caption)
    features = {"visual": video.visual[0], "sync": video.sync[0], "text": text}
    if encoders.teacher is not None:
        features["teacher"] = encoders.teacher.features(waveform[None])[0]
    tensors = {"mean": mean[0], "logvar": logvar[0]} | {name: _halved(value) for name, value in features.items()}
    return Encoded(tensors, caption, reach, tokens)


def encode_caption(clap: ClapTextEncoder, caption: str) -> tuple[Tensor, int]:
    """Features [T, D] on the CPU and how many of them are the caption's own; one row of padding follows, if it fits.

    All positions of padding behind a text have the same features, so the row stands for as many as a batch needs.
    """
    input_ids, mask = clap.tokenizer.encode([caption])
    own = input_ids.shape[1]
    if own < TEXT_TOKENS:
        input_ids, mask = F.pad(input_ids, (0, 1), value=PAD_ID), F.pad(mask, (0, 1))
    return clap.encode_tokens(input_ids, mask)[0, :TEXT_TOKENS], min(own, TEXT_TOKENS)


def _sound(path: Path, start: float, seconds: float, report: media.DecodeReport) -> Tensor:
    """[1,N] at 48 kHz, mono."""
    waveform, rate = media.read_audio(path, start=start, duration=seconds, report=report)
    waveform = media.resample(media.to_mono(waveform), rate, SAMPLE_RATE)
    if waveform.numel() and (waveform - waveform.mean()).abs().max() < SILENCE:
        raise MediaError(f"{path.name} is silent from {start:g} s on.", "Expected something to hear.")
    return waveform


def _common_seconds(waveform: Tensor, entry: Entry) -> float:
    """How long the sound lasts, in whole frames at 25 fps; codecs may lack up to a latent frame at the end."""
    per_frame = samples(1 / SYNC_RATE)
    frames = (waveform.shape[-1] + LATENT_HOP - 1) // per_frame
    if frames < SEGMENT_FRAMES:
        raise _too_short(entry.audio.name, waveform.shape[-1] / SAMPLE_RATE, "sound")
    return frames / SYNC_RATE


def _too_short(name: str, seconds: float, kind: str) -> MediaError:
    least = SEGMENT_FRAMES / SYNC_RATE
    return MediaError(f"{name} has {seconds:.2f} s of {kind} here.", f"Expected {least:g} s, a Synchformer segment.")


def _halved(features: Tensor) -> Tensor:
    """In half the room, unless that cannot hold them."""
    half = features.cpu().half()
    return half if half.isfinite().all() else features.cpu().float()
