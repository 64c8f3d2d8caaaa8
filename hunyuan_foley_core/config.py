"""Sizes of the networks, read from the tensors of a checkpoint.

Nothing here is a default: each dataclass is filled from shapes and block counts. What tensors cannot tell (the number of
attention heads) comes from the safetensors metadata entry `config` or from the head width the released models use.
"""

from dataclasses import asdict, dataclass
from typing import Any, Mapping

from .errors import CheckpointError, DamagedFileError

ENCODER_HEAD_DIM = 64  # SigLIP2-base, Synchformer and RoBERTa-base all use heads of 64


class Shapes:
    """Shape look-ups over a state dict, with an error that names the missing key.

    Args:
        tensors: mapping from key to anything with a `.shape`.
        what: the name of the network, for messages.
    """

    def __init__(self, tensors: Mapping[str, Any], what: str):
        self.tensors, self.what = tensors, what

    def __getitem__(self, key: str) -> tuple[int, ...]:
        if key not in self.tensors:
            raise DamagedFileError(
                f"The file has no tensor `{key}`, so it does not hold the {self.what}.",
                f"Expected the {self.what} under its released key names.",
                "Check that the right file was picked and that it was downloaded whole.",
            )
        return tuple(self.tensors[key].shape)

    def of(self, key: str, axes: int) -> tuple[int, ...]:
        """The shape of a tensor that has so many axes, none of them empty."""
        shape = self[key]
        if len(shape) != axes or 0 in shape:
            raise DamagedFileError(
                f"`{key}` has the shape {list(shape)}, so the file does not hold the {self.what}.",
                f"Expected {axes} {'axes' if axes > 1 else 'axis'}, none of length 0.",
                "The file is incomplete or was converted wrongly: download it again.",
            )
        return shape

    def count(self, prefix: str) -> int:
        """How many numbered blocks follow `prefix`, e.g. `blocks.` for `blocks.0.…`, `blocks.1.…`."""
        numbers = {key[len(prefix):].split(".", 1)[0] for key in self.tensors if key.startswith(prefix)}
        return 1 + max((int(n) for n in numbers if n.isdigit()), default=-1)


def _heads(width: int, declared: int | None, what: str) -> int:
    heads = declared or max(1, width // ENCODER_HEAD_DIM)
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise CheckpointError(
            f"The {what} is {width} wide, which {heads} attention heads cannot share evenly.",
            "Expected a width that is a multiple of the number of heads.",
            "Store the head count in the safetensors metadata `config` if this model is not of the released size.",
        )
    return heads


@dataclass(frozen=True)
class TransformerConfig:
    """The multimodal diffusion transformer (XXL: 18 + 36 blocks, width 1536; XL: 12 + 24, width 1408)."""

    latent_channels: int
    hidden_size: int
    num_heads: int
    num_multimodal_blocks: int
    num_unimodal_blocks: int
    mlp_hidden: int
    conv_mlp_hidden: int
    sync_mlp_hidden: int
    text_dim: int
    visual_dim: int
    sync_dim: int
    sync_tokens_per_segment: int
    time_frequencies: int

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> "TransformerConfig":
        shapes = Shapes(tensors, "HunyuanVideo-Foley transformer")
        hidden_size, latent_channels, _ = shapes.of("audio_embedder.proj.weight", 3)
        (head_dim,) = shapes.of("triple_blocks.0.audio_self_q_norm.weight", 1)
        if hidden_size % head_dim:
            raise DamagedFileError(
                f"The {shapes.what} is {hidden_size} wide, and its attention heads {head_dim}.",
                "Expected a multiple of that.", "The file was converted wrongly: download it again.",
            )
        return cls(
            latent_channels=latent_channels,
            hidden_size=hidden_size,
            num_heads=hidden_size // head_dim,
            num_multimodal_blocks=shapes.count("triple_blocks."),
            num_unimodal_blocks=shapes.count("single_blocks."),
            mlp_hidden=shapes.of("triple_blocks.0.audio_mlp.fc1.weight", 2)[0],
            conv_mlp_hidden=shapes.of("single_blocks.0.linear2.w1.weight", 3)[0],
            sync_mlp_hidden=shapes.of("sync_in.2.w1.weight", 3)[0],
            text_dim=shapes.of("cond_in.linear_1.weight", 2)[1],
            visual_dim=shapes.of("visual_proj.w1.weight", 2)[1],
            sync_dim=shapes.of("sync_in.0.weight", 2)[1],
            sync_tokens_per_segment=shapes.of("sync_pos_emb", 4)[2],
            time_frequencies=shapes.of("time_in.mlp.0.weight", 2)[1],
        )

    to_dict = asdict


@dataclass(frozen=True)
class SigLIP2Config:
    """The SigLIP2 vision tower (released: base, patch 16, 512 px)."""

    hidden_size: int
    num_heads: int
    num_layers: int
    mlp_hidden: int
    patch_size: int
    image_size: int

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> "SigLIP2Config":
        shapes = Shapes(tensors, "SigLIP2 vision tower")
        hidden_size, _, patch_size, _ = shapes.of("vision_model.embeddings.patch_embedding.weight", 4)
        positions, _ = shapes.of("vision_model.embeddings.position_embedding.weight", 2)
        return cls(
            hidden_size=hidden_size,
            num_heads=_heads(hidden_size, (metadata or {}).get("num_attention_heads"), "SigLIP2 vision tower"),
            num_layers=shapes.count("vision_model.encoder.layers."),
            mlp_hidden=shapes.of("vision_model.encoder.layers.0.mlp.fc1.weight", 2)[0],
            patch_size=patch_size,
            image_size=round(positions**0.5) * patch_size,
        )


@dataclass(frozen=True)
class SynchformerConfig:
    """The Synchformer visual tower (a Motionformer with divided space-time attention)."""

    hidden_size: int
    num_heads: int
    num_blocks: int
    mlp_hidden: int
    aggregator_mlp_hidden: int
    patch_size: int
    tubelet_size: int
    image_size: int
    time_steps: int

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> "SynchformerConfig":
        shapes = Shapes(tensors, "Synchformer visual tower")
        hidden_size, _, tubelet_size, patch_size, _ = shapes.of("vfeat_extractor.patch_embed_3d.proj.weight", 5)
        return cls(
            hidden_size=hidden_size,
            num_heads=_heads(hidden_size, (metadata or {}).get("num_heads"), "Synchformer visual tower"),
            num_blocks=shapes.count("vfeat_extractor.blocks."),
            mlp_hidden=shapes.of("vfeat_extractor.blocks.0.mlp.fc1.weight", 2)[0],
            aggregator_mlp_hidden=shapes.of("vfeat_extractor.spatial_attn_agg.linear1.weight", 2)[0],
            patch_size=patch_size,
            tubelet_size=tubelet_size,
            image_size=round((shapes.of("vfeat_extractor.pos_embed", 3)[1] - 1) ** 0.5) * patch_size,
            time_steps=shapes.of("vfeat_extractor.temp_embed", 3)[1],
        )


@dataclass(frozen=True)
class ClapTextConfig:
    """The CLAP text encoder (RoBERTa-base)."""

    vocab_size: int
    hidden_size: int
    num_heads: int
    num_layers: int
    mlp_hidden: int
    max_positions: int
    pad_token_id: int

    @property
    def max_tokens(self) -> int:
        """Longest text in tokens: RoBERTa's positions start after the padding id."""
        return self.max_positions - self.pad_token_id - 1

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> "ClapTextConfig":
        shapes, metadata = Shapes(tensors, "CLAP text encoder"), metadata or {}
        vocab_size, hidden_size = shapes.of("text_model.embeddings.word_embeddings.weight", 2)
        return cls(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            num_heads=_heads(hidden_size, metadata.get("num_attention_heads"), "CLAP text encoder"),
            num_layers=shapes.count("text_model.encoder.layer."),
            mlp_hidden=shapes.of("text_model.encoder.layer.0.intermediate.dense.weight", 2)[0],
            max_positions=shapes.of("text_model.embeddings.position_embeddings.weight", 2)[0],
            pad_token_id=metadata.get("pad_token_id", 1),
        )


@dataclass(frozen=True)
class DACVAEConfig:
    """The DAC-VAE (released: 128 latent channels, hop 960, 48 kHz mono)."""

    encoder_dim: int
    encoder_rates: tuple[int, ...]
    decoder_dim: int
    decoder_rates: tuple[int, ...]
    latent_channels: int

    @property
    def hop(self) -> int:
        hop = 1
        for rate in self.decoder_rates:
            hop *= rate
        return hop

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Any], metadata: Mapping[str, Any] | None = None) -> "DACVAEConfig":
        """Works on keys with weight norm (`weight_v`) and on folded ones (`weight`); kernels are twice the stride."""
        shapes = Shapes(tensors, "DAC-VAE")
        suffix = "weight_v" if "encoder.block.0.weight_v" in tensors else "weight"
        # encoder.block: conv, stages…, snake, conv.  decoder.model: conv, stages…, snake, conv, (tanh has no tensors).
        encoder_stages = range(1, shapes.count("encoder.block.") - 2)
        decoder_stages = range(1, shapes.count("decoder.model.") - 2)
        return cls(
            encoder_dim=shapes.of(f"encoder.block.0.{suffix}", 3)[0],
            encoder_rates=tuple(shapes.of(f"encoder.block.{i}.block.4.{suffix}", 3)[2] // 2 for i in encoder_stages),
            decoder_dim=shapes.of(f"decoder.model.0.{suffix}", 3)[0],
            decoder_rates=tuple(shapes.of(f"decoder.model.{i}.block.1.{suffix}", 3)[2] // 2 for i in decoder_stages),
            latent_channels=shapes.of("post_quant_conv.weight", 3)[0],
        )
