"""CLAP's text encoder: one vector per token of the prompt (arXiv 2211.06687; RoBERTa-base, arXiv 1907.11692)."""

import torch
import torch.nn.functional as F
from torch import nn

from .. import ops as core_ops
from ..config import ClapTextConfig
from ..errors import InputError, MissingFileError
from .layers import attend, compute_placement

EPS = 1e-12


class ClapTextEncoder(nn.Module):
    """Keys as in Hugging Face's `laion/larger_clap_general`, of which `text_model.*` is used, without its pooler.

    Attributes:
        tokenizer: a FoleyTokenizer, or None where only token ids will be encoded.
    """

    KNOWN_EXTRA_PREFIXES = (
        "text_model.pooler.",
        "text_model.embeddings.position_ids",
        "text_model.embeddings.token_type_ids",
        "text_projection.",
        "audio_model.",
        "audio_projection.",
        "logit_scale_a",
        "logit_scale_t",
    )

    def __init__(self, config: ClapTextConfig, ops=core_ops, dtype=None, device=None):
        super().__init__()
        self.config = config
        self.tokenizer = None
        self.text_model = _Roberta(config, ops, dtype=dtype, device=device)

    def forward(self, input_ids, attention_mask, dtype: torch.dtype = torch.float32):
        """Ids and mask [B,T] to features [B,T,D] of `dtype`, those of padding included."""
        return self.text_model(input_ids, attention_mask, dtype)

    @torch.no_grad()
    def encode_tokens(self, input_ids, attention_mask, *, device=None, dtype=None) -> torch.Tensor:
        """Features of tokenized texts that were padded together.

        Args:
            input_ids, attention_mask: integers [B,T]; the mask is 1 at tokens and 0 at padding.
            device, dtype: where and in what type to compute; None: as the weights are stored (see `compute_placement`).

        Returns:
            [B,T,D] float32 on the CPU.

        Raises:
            InputError: ids outside the vocabulary, more tokens than the encoder has positions, shapes that disagree.
        """
        self._check_tokens(input_ids, attention_mask)
        device, dtype = compute_placement(self, device, dtype)
        return self(input_ids.to(device), attention_mask.to(device), dtype).float().cpu()

    def encode_text(self, texts: list[str], *, device=None, dtype=None) -> torch.Tensor:
        """Features [B,T,D] of texts that are padded to the longest of them; float32 on the CPU, T not cut.

        Raises:
            CheckpointError: the encoder was loaded without a tokenizer.
            InputError: a text is longer than the encoder's positions.
        """
        if self.tokenizer is None:
            raise MissingFileError(
                "The CLAP text encoder was loaded without a tokenizer.",
                "Expected the `tokenizer.json` of laion/larger_clap_general to turn text into tokens.",
                "Put it beside the CLAP file or name it when loading.",
            )
        return self.encode_tokens(*self.tokenizer.encode(texts), device=device, dtype=dtype)

    def _check_tokens(self, input_ids, attention_mask) -> None:
        if input_ids.ndim != 2 or input_ids.numel() == 0 or input_ids.shape != attention_mask.shape:
            raise InputError(
                f"The token ids have the shape {list(input_ids.shape)}, their mask {list(attention_mask.shape)}.",
                "Expected both as [texts, tokens] of the same size, not empty.",
            )
        if input_ids.shape[1] > self.config.max_tokens:
            raise InputError(
                f"The texts are {input_ids.shape[1]} tokens long.",
                f"The CLAP text encoder takes at most {self.config.max_tokens}.",
                "Shorten the prompt.",
            )
        lowest, highest = int(input_ids.min()), int(input_ids.max())
        if lowest < 0 or highest >= self.config.vocab_size:
            raise InputError(
                f"The token ids reach from {lowest} to {highest}.",
                f"This CLAP text encoder knows the ids 0 to {self.config.vocab_size - 1}.",
                "Use the tokenizer.json that belongs to it.",
            )


class _Roberta(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        self.embeddings = _Embeddings(config, ops, **factory)
        self.encoder = _Encoder(config, ops, **factory)

    def forward(self, input_ids, attention_mask, dtype):
        tokens = self.embeddings(input_ids, dtype)
        # Finite, so that a text of nothing but padding gives numbers and no NaN.
        padding = torch.zeros(attention_mask.shape, dtype=dtype, device=tokens.device)
        padding = padding.masked_fill(attention_mask == 0, torch.finfo(dtype).min)
        return self.encoder(tokens, padding[:, None, None, :])


class _Embeddings(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        self.pad_token_id = config.pad_token_id
        self.word_embeddings = ops.Embedding(config.vocab_size, config.hidden_size, **factory)
        self.position_embeddings = ops.Embedding(config.max_positions, config.hidden_size, **factory)
        self.token_type_embeddings = ops.Embedding(1, config.hidden_size, **factory)
        self.LayerNorm = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)

    def forward(self, input_ids, dtype):
        words = self.word_embeddings(input_ids).to(dtype)
        positions = self.position_embeddings(self._positions(input_ids)).to(dtype)
        types = self.token_type_embeddings(torch.zeros_like(input_ids)).to(dtype)
        return self.LayerNorm(words + types + positions)

    def _positions(self, input_ids):
        """Tokens count on from the padding id; padding itself stays there."""
        token = (input_ids != self.pad_token_id).long()
        return token.cumsum(dim=1) * token + self.pad_token_id


class _Encoder(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config, ops, **factory) for _ in range(config.num_layers))

    def forward(self, tokens, mask):
        for layer in self.layer:
            tokens = layer(tokens, mask)
        return tokens


class _Layer(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        self.attention = _Attention(config, ops, **factory)
        self.intermediate = _Intermediate(config, ops, **factory)
        self.output = _AddAndNorm(config.mlp_hidden, config.hidden_size, ops, **factory)

    def forward(self, tokens, mask):
        tokens = self.attention(tokens, mask)
        return self.output(self.intermediate(tokens), tokens)


class _Attention(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        self.self = _SelfAttention(config, ops, **factory)
        self.output = _AddAndNorm(config.hidden_size, config.hidden_size, ops, **factory)

    def forward(self, tokens, mask):
        return self.output(self.self(tokens, mask), tokens)


class _SelfAttention(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.query = ops.Linear(width, width, **factory)
        self.key = ops.Linear(width, width, **factory)
        self.value = ops.Linear(width, width, **factory)

    def forward(self, tokens, mask):
        return attend(self.query(tokens), self.key(tokens), self.value(tokens), self.num_heads, mask)


class _Intermediate(nn.Module):
    def __init__(self, config: ClapTextConfig, ops, **factory):
        super().__init__()
        self.dense = ops.Linear(config.hidden_size, config.mlp_hidden, **factory)

    def forward(self, tokens):
        return F.gelu(self.dense(tokens))


class _AddAndNorm(nn.Module):
    """RoBERTa normalises after each residual."""

    def __init__(self, dim_in: int, dim: int, ops, **factory):
        super().__init__()
        self.dense = ops.Linear(dim_in, dim, **factory)
        self.LayerNorm = ops.LayerNorm(dim, eps=EPS, **factory)

    def forward(self, x, residual):
        return self.LayerNorm(self.dense(x) + residual)
