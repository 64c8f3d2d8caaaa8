"""Pre-training of small encoders: each learns to foretell the sound from what it sees or reads.

The small model's stand-ins for SigLIP2, Synchformer and CLAP are the same networks at small sizes. They are not trained as
the large ones were. The towers learn, together with a linear layer each that is thrown away afterwards, what the sound
itself can teach without labels: Synchformer how loud it is every 10 ms, SigLIP2 and CLAP how it is coloured.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from einops import rearrange, reduce
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from .. import ops
from ..config import ClapTextConfig, SigLIP2Config, SynchformerConfig
from ..encoders.clap import ClapTextEncoder
from ..encoders.preprocess import normalise
from ..encoders.siglip2 import SigLIP2VisionTower
from ..encoders.synchformer import SynchformerVisualTower
from ..encoders.tokenizer import FoleyTokenizer
from ..timing import SAMPLE_RATE, SEGMENT_FRAMES, SEGMENT_HOP, SEGMENT_TOKENS, SYNC_RATE
from .config import LoopConfig, OptimiserConfig
from .loop import Batch, Phase, PhaseLoss, seeded
from .spectra import mel_bands, mel_filters, spectrum
from .world_clips import WorldConfig

INITIALISATION_STREAM = 2
SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]
ENVELOPE_RATE = 100  # values a second that Synchformer's tokens foretell
ENVELOPE_PER_TOKEN = ENVELOPE_RATE * SEGMENT_FRAMES // SEGMENT_TOKENS // SYNC_RATE
ENVELOPE_FLOOR, COLOUR_FLOOR = 1e-3, 1e-4
COLOUR_WINDOW = 1024
# Sizes of the first filters (norms), by which what moves and what stands still come out at about 1.
SHAPES, MOTION = 5.0, 60.0
# Last layers of the picture towers' residual branches. They start small, so that the features tell what the first filters
# see from the start; at full size the towers forgot the picture and settled on the average sound.
BRANCHES = ("attn.proj.weight", "attn.out_proj.weight", "fc2.weight", "linear2.weight")
BRANCH_SCALE = 0.2


@dataclass(frozen=True)
class TextConfig:
    """The text tower; its vocabulary size is that of the tokenizer.

    Attributes:
        vocabulary: most tokens to learn.
    """

    vocabulary: int
    hidden_size: int
    num_layers: int
    mlp_hidden: int


@dataclass(frozen=True)
class TowersConfig:
    siglip2: SigLIP2Config
    synchformer: SynchformerConfig
    clap: TextConfig


@dataclass(frozen=True)
class EncodersConfig:
    """A run that trains the three towers at once.

    Attributes:
        tokenizer: a tokenizer.json, which `learn_tokenizer` writes.
    """

    task: str
    out: str
    device: str
    tokenizer: str
    model: TowersConfig
    data: WorldConfig
    optimiser: OptimiserConfig
    loop: LoopConfig


def learn_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer as RoBERTa's, which can spell any text, with whole tokens for what is in `texts`."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=SPECIAL_TOKENS, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def envelope(waveform: Tensor) -> Tensor:
    """How loud [B,T,2] waveforms [B,N] are every 10 ms: log10 of the level as it is, and of its slope, where highs weigh.

    Shifted and scaled to lie around zero.
    """
    slope = torch.diff(waveform, prepend=waveform[:, :1])
    hop = SAMPLE_RATE // ENVELOPE_RATE
    frames = rearrange(torch.stack((waveform, slope), -1), "B (T n) two -> B T n two", n=hop)
    level = reduce(frames.square(), "B T n two -> B T two", "mean").sqrt()
    return torch.log10(level.clamp(min=ENVELOPE_FLOOR)) + 2


def colour(waveform: Tensor) -> Tensor:
    """Long-term spectra [B,M] of waveforms [B,N]: log10 of each mel band's mean, shifted to lie around zero."""
    magnitudes = reduce(spectrum(waveform[:, None], COLOUR_WINDOW).abs(), "B F T -> B F", "mean")
    return torch.log10((magnitudes @ mel_filters(COLOUR_WINDOW).T).clamp(min=COLOUR_FLOOR)) + 3


class Towers(nn.Module):
    """The three encoders and what reads the sound from their features."""

    def __init__(self, config: TowersConfig, vocabulary: int):
        super().__init__()
        self.siglip2 = SigLIP2VisionTower(config.siglip2)
        self.synchformer = SynchformerVisualTower(config.synchformer)
        text = config.clap
        self.clap = ClapTextEncoder(ClapTextConfig(
            vocab_size=vocabulary, hidden_size=text.hidden_size, num_heads=max(1, text.hidden_size // 64),
            num_layers=text.num_layers, mlp_hidden=text.mlp_hidden, max_positions=514, pad_token_id=1,
        ))
        bands = mel_bands(COLOUR_WINDOW)
        self.readers = nn.ModuleDict({
            "siglip2": _reader(config.siglip2.hidden_size, bands),
            "synchformer": _reader(config.synchformer.hidden_size, 2 * ENVELOPE_PER_TOKEN),
            "clap": _reader(text.hidden_size, bands),
        })

    def see(self, pictures: Tensor) -> Tensor:
        """uint8 [B,V,3,S,S] to spectra [B,M]."""
        features = self.siglip2(normalise(rearrange(pictures, "B V C H W -> (B V) C H W")))
        return self.readers["siglip2"](reduce(features, "(B V) D -> B D", "mean", B=len(pictures)))

    def follow(self, pictures: Tensor) -> Tensor:
        """uint8 [B,F,3,S,S] to the envelope [B,G,T,2] within each segment."""
        segments = pictures.unfold(1, SEGMENT_FRAMES, SEGMENT_HOP)
        batch = len(segments)
        tokens = self.synchformer(normalise(rearrange(segments, "B G C H W T -> (B G) C T H W")))
        read = self.readers["synchformer"](tokens)
        return rearrange(read, "(B G) F (t two) -> B G (F t) two", B=batch, two=2)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [B,T] to spectra [B,M]."""
        features = self.clap(ids, mask) * mask[..., None]
        return self.readers["clap"](features.sum(1) / mask.sum(1, keepdim=True))


class EncodersObjective:
    """The side of `loop.Objective` that trains the towers; batches as from `WorldClips`."""

    averaged = "encoders"

    def __init__(self, config: EncodersConfig):
        self.config = config
        self.tokenizer = FoleyTokenizer.from_file(Path(config.tokenizer), 512)
        vocabulary = Tokenizer.from_file(config.tokenizer).get_vocab_size()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**62, (), generator=seeded(config.loop.seed, INITIALISATION_STREAM))))
            self.towers = Towers(config.model, vocabulary)
            initialise(self.towers)
        self.towers.to(config.device)
        self.phases = [Phase("encoders", dict(self.towers.named_parameters()), config.optimiser)]

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[PhaseLoss]:
        parts = self._errors(batch, augmentation(len(batch["captions"]), generator))
        yield "encoders", sum(parts.values()), parts

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Mean squared errors, and beside them the variance of what is foretold: an error below it has learned."""
        waveform = batch["waveform"]
        spread = {"spread_synchformer": _segments(envelope(waveform)).var(), "spread_colour": colour(waveform).var(0).mean()}
        return {name: value.item() for name, value in (self._errors(batch, None) | spread).items()}

    def preview(self, batch: Batch, generator: torch.Generator, folder: Path) -> None:
        """There is nothing to listen to."""

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """All three towers in one file; `split_towers` takes it apart."""
        return self.towers.state_dict(), {"format": "pt", "config": json.dumps(asdict(self.config.model))}

    def _errors(self, batch: Batch, change: Tensor | None) -> dict[str, Tensor]:
        device = self.config.device
        waveform = batch["waveform"].to(device)
        ids, mask = (tensor.to(device) for tensor in self.tokenizer.encode(batch["captions"]))
        heard, rhythm = colour(waveform), _segments(envelope(waveform))
        visual, sync = (_recoloured(batch[name].to(device), change) for name in ("visual", "sync"))
        followed = self.towers.follow(sync)
        return {
            "synchformer": (followed - rhythm[:, : followed.shape[1]]).square().mean(),
            "siglip2": (self.towers.see(visual) - heard).square().mean(),
            "clap": (self.towers.read(ids, mask) - heard).square().mean(),
        }


def augmentation(batch: int, generator: torch.Generator) -> Tensor:
    """Per clip a gain and an offset of each colour [B,2,3], so that no tower trusts an exact shade."""
    gain = 1 + 0.15 * torch.randn(batch, 1, 3, generator=generator)
    offset = 12 * torch.randn(batch, 1, 3, generator=generator)
    return torch.cat((gain, offset), 1)


def split_towers(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of an exported file by tower, under the keys that inference loads; the readers stay behind."""
    towers = {name: {} for name in ("siglip2", "synchformer", "clap")}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        if name in towers:
            towers[name][rest] = tensor
    return towers


def initialise(towers: Towers) -> None:
    """Weights with variances kept level, norms at one, biases at zero, drawn from the global generator."""
    for key, parameter in towers.named_parameters():
        if key.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 1:
            nn.init.ones_(parameter)
        elif any(word in key for word in ("pos_embed", "temp_embed", "cls_token", "probe", "embeddings.")):
            nn.init.normal_(parameter, std=0.1)
        else:
            nn.init.normal_(parameter, std=1 / math.sqrt(math.prod(parameter.shape[1:])))
    with torch.no_grad():
        # Synchformer's aggregator is no branch to the patches it gathers: nothing passes it by.
        for key, parameter in towers.named_parameters():
            if key.endswith(BRANCHES) and not key.startswith("clap.") and "agg.self_attn" not in key:
                parameter.mul_(BRANCH_SCALE)
        _see_shapes(towers.siglip2.vision_model.embeddings.patch_embedding.weight)
        _see_motion(towers.synchformer.vfeat_extractor.patch_embed_3d.proj.weight)


def _see_shapes(filters: Tensor) -> None:
    """Makes random filters [D,3,h,w] that are blind to an even colour in half of the channels, which would drown the rest."""
    filters.normal_()
    half = len(filters) // 2
    filters[half:].sub_(filters[half:].mean((-2, -1), keepdim=True))
    _normed(filters)
    filters[:half].mul_(0.3)
    filters[half:].mul_(SHAPES)


def _see_motion(filters: Tensor) -> None:
    """Makes random filters [D,3,2,h,w]: half of them take the difference of the two frames, the others are as above."""
    filters.normal_()
    filters.sub_(filters.mean((-2, -1), keepdim=True))
    half = len(filters) // 2
    filters[:half, :, 1] = -filters[:half, :, 0]
    _normed(filters)
    filters[:half].mul_(MOTION)
    filters[half:].mul_(SHAPES)


def _normed(filters: Tensor) -> None:
    filters.div_(filters.flatten(1).norm(dim=1).reshape(-1, *[1] * (filters.ndim - 1)))


def _reader(features: int, values: int) -> nn.Sequential:
    return nn.Sequential(ops.LayerNorm(features), ops.Linear(features, values))


def _segments(envelopes: Tensor) -> Tensor:
    """Envelopes [B,T,2] cut as the picture is: [B,G,t,2]."""
    length, hop = (frames * ENVELOPE_RATE // SYNC_RATE for frames in (SEGMENT_FRAMES, SEGMENT_HOP))
    return rearrange(envelopes.unfold(1, length, hop), "B G two t -> B G t two")


def _recoloured(pictures: Tensor, change: Tensor | None) -> Tensor:
    if change is None:
        return pictures
    gain, offset = (value.to(pictures.device)[:, None, :, None, None] for value in change.unbind(1))
    return (pictures.float() * gain + offset).clamp(0, 255)
