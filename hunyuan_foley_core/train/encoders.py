"""The small model's encoders: SigLIP2's, Synchformer's and CLAP's networks at small sizes.

Synchformer is drawn (`drawn_synchformer`). CLAP's text tower learns to foretell how the sound is coloured, and SigLIP2's, which
begins as drawn (`drawn_siglip2`), which words are said of a picture: the captions as bags of words (Joulin et al., arXiv
1511.02251), because in a world of so few things most captions of a batch would be true of each other's pictures.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import reduce
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from .. import ops
from ..config import ENCODER_HEAD_DIM, ClapTextConfig, SigLIP2Config, SynchformerConfig
from ..encoders.clap import ClapTextEncoder
from ..encoders.preprocess import normalise
from ..encoders.siglip2 import SigLIP2VisionTower
from ..encoders.synchformer import SynchformerVisualTower
from ..encoders.tokenizer import FoleyTokenizer
from .config import LoopConfig, OptimiserConfig, one_of
from .drawn_siglip2 import draw_siglip2
from .drawn_synchformer import draw_synchformer
from .initialisation import INITIALISATION_STREAM, keep_variance, xavier
from .loop import Batch, Phase, PhaseLoss, seeded
from .spectra import mel_bands, mel_filters, spectrum
from .world_clips import WorldConfig

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]
PARTS = {"all": ("clap.", "reader.", "siglip2.", "namer."), "siglip2": ("siglip2.", "namer.")}
COLOUR_FLOOR = 1e-4
COLOUR_WINDOW = 1024


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
    """A run that makes the three towers.

    Attributes:
        tokenizer: a tokenizer.json, which `learn_tokenizer` writes.
        part: "all", or "siglip2" for its tower alone, so that features of texts made before stay valid.
    """

    task: str
    out: str
    device: str
    tokenizer: str
    part: str
    model: TowersConfig
    data: WorldConfig
    optimiser: OptimiserConfig
    loop: LoopConfig

    def __post_init__(self):
        one_of("part", self.part, tuple(PARTS))


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


def colour(waveform: Tensor) -> Tensor:
    """Long-term spectra [B,M] of waveforms [B,N]: log10 of each mel band's mean, shifted to lie around zero."""
    magnitudes = reduce(spectrum(waveform[:, None], COLOUR_WINDOW).abs(), "B F T -> B F", "mean")
    return torch.log10((magnitudes @ mel_filters(COLOUR_WINDOW).T).clamp(min=COLOUR_FLOOR)) + 3


class Towers(nn.Module):
    """The three encoders, what reads a sound's colour from the text's features, and what names a picture from its own."""

    def __init__(self, config: TowersConfig, vocabulary: int):
        super().__init__()
        self.siglip2 = SigLIP2VisionTower(config.siglip2)
        self.synchformer = SynchformerVisualTower(config.synchformer)
        text = config.clap
        self.clap = ClapTextEncoder(ClapTextConfig(
            vocab_size=vocabulary, hidden_size=text.hidden_size, num_heads=max(1, text.hidden_size // ENCODER_HEAD_DIM),
            num_layers=text.num_layers, mlp_hidden=text.mlp_hidden, max_positions=514, pad_token_id=1,
        ))
        self.reader = nn.Sequential(ops.LayerNorm(text.hidden_size), ops.Linear(text.hidden_size, mel_bands(COLOUR_WINDOW)))
        self.namer = ops.Linear(config.siglip2.hidden_size, vocabulary)

    def read(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [B,T] to spectra [B,M]."""
        features = self.clap(ids, mask) * mask[..., None]
        return self.reader(features.sum(1) / mask.sum(1, keepdim=True))

    def name(self, pictures: Tensor) -> Tensor:
        """Pictures uint8 [B,3,S,S] to a logit [B,V] of each token being in the caption."""
        return self.namer(self.siglip2(normalise(pictures)))


class EncodersObjective:
    """The side of `loop.Objective` that trains the towers; batches as from `WorldClips`."""

    averaged = "towers"

    def __init__(self, config: EncodersConfig):
        self.config = config
        self.tokenizer = FoleyTokenizer.from_file(Path(config.tokenizer), 512)
        self.vocabulary = Tokenizer.from_file(config.tokenizer).get_vocab_size()
        generator = seeded(config.loop.seed, INITIALISATION_STREAM)
        self.towers = Towers(config.model, self.vocabulary)
        draw_siglip2(self.towers.siglip2, generator)
        draw_synchformer(self.towers.synchformer)
        keep_variance(self.towers.clap, generator, small=("embeddings.",))
        for module in (self.towers.reader, self.towers.namer):
            xavier(module, generator)
        self.towers.to(config.device)
        trained = {name: p for name, p in self.towers.named_parameters() if name.startswith(PARTS[config.part])}
        self.phases = [Phase("towers", trained, config.optimiser)]

    def losses(self, batch: Batch, step: int, generator: torch.Generator) -> Iterator[PhaseLoss]:
        parts = self._errors(batch)
        yield "towers", sum(parts.values()), parts

    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Errors, and beside them those of who knows how often a colour or a word comes and no more."""
        words = self._words(batch).mean(0, keepdim=True).clamp(1e-6, 1 - 1e-6)
        known = {"colour_spread": colour(batch["waveform"]).var(0).mean(), "words_spread": _surprise(words.logit(), words)}
        return {name: value.item() for name, value in (self._errors(batch) | known).items()}

    def preview(self, batch: Batch, generator: torch.Generator, folder: Path) -> None:
        """There is nothing to listen to."""

    def export(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """All three towers in one file; `split_towers` takes it apart."""
        return self.towers.state_dict(), {"format": "pt", "config": json.dumps(asdict(self.config.model))}

    def _errors(self, batch: Batch) -> dict[str, Tensor]:
        named = self.towers.name(batch["picture"].to(self.config.device))
        errors = {"words": _surprise(named, self._words(batch).to(named))}
        if self.config.part == "all":
            errors["colour"] = self._colour_error(batch)
        return errors

    def _colour_error(self, batch: Batch) -> Tensor:
        device = self.config.device
        ids, mask = (tensor.to(device) for tensor in self.tokenizer.encode(batch["captions"]))
        return (self.towers.read(ids, mask) - colour(batch["waveform"].to(device))).square().mean()

    def _words(self, batch: Batch) -> Tensor:
        """Which tokens are in the captions, 0 or 1 [B,V], those aside that frame every text."""
        ids, _ = self.tokenizer.encode(batch["captions"])
        words = torch.zeros(len(ids), self.vocabulary).scatter_(1, ids, 1.0)
        words[:, : len(SPECIAL_TOKENS)] = 0
        return words


def _surprise(logits: Tensor, words: Tensor) -> Tensor:
    """Cross-entropy of which words are said, in nats a caption."""
    return F.binary_cross_entropy_with_logits(logits, words, reduction="none").sum(-1).mean()


def split_towers(tensors: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Tensors of an exported file by tower, under the keys that inference loads; what reads and names stays behind."""
    towers = {name: {} for name in ("siglip2", "synchformer", "clap")}
    for key, tensor in tensors.items():
        name, _, rest = key.partition(".")
        if name in towers:
            towers[name][rest] = tensor
    return towers
