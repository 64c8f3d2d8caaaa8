"""SigLIP2's vision tower: one vector per picture (arXiv 2502.14786; ViT with an attention-pooling head)."""

import torch
from einops import rearrange
from torch import nn

from .. import ops as core_ops
from ..config import SigLIP2Config
from ..ops import cast
from .layers import Mlp, PackedAttention, attend, compute_placement
from .preprocess import check_frames, normalise, siglip2_pixels

EPS = 1e-6


class SigLIP2VisionTower(nn.Module):
    """Keys as in Hugging Face's `google/siglip2-base-patch16-512`, of which `vision_model.*` is used."""

    KNOWN_EXTRA_PREFIXES = ("text_model.", "logit_scale", "logit_bias", "vision_model.embeddings.position_ids")

    def __init__(self, config: SigLIP2Config, ops=core_ops, dtype=None, device=None):
        super().__init__()
        self.config = config
        self.vision_model = _VisionTransformer(config, ops, dtype=dtype, device=device)

    def forward(self, pixels):
        """Normalised pixels [N,3,S,S] to features [N,D], in the type and on the device of the pixels."""
        return self.vision_model(pixels)

    @torch.no_grad()
    def encode_frames(self, frames, *, batch_size: int = 2, device=None, dtype=None, callback=None) -> torch.Tensor:
        """Features of video frames, batch by batch, so that memory does not grow with the clip.

        Args:
            frames: uint8 [N,3,H,W] RGB of any size (8 per second in this model).
            device, dtype: where and in what type to compute; None: as the weights are stored (see `compute_placement`).
            callback: called as `callback(frames_done, frames_total)` after each batch; may raise to cancel.

        Returns:
            [N,D] float32 on the CPU.

        Raises:
            InputError: the frames are not uint8 [N,3,H,W].
        """
        check_frames(frames)
        device, dtype = compute_placement(self, device, dtype)
        features = []
        for first in range(0, len(frames), batch_size):
            pixels = siglip2_pixels(frames[first:first + batch_size], self.config.image_size).to(device)
            features.append(self(normalise(pixels, dtype)).float().cpu())
            if callback:
                callback(min(first + batch_size, len(frames)), len(frames))
        return torch.cat(features)


class _VisionTransformer(nn.Module):
    def __init__(self, config: SigLIP2Config, ops, **factory):
        super().__init__()
        self.embeddings = _Embeddings(config, ops, **factory)
        self.encoder = _Encoder(config, ops, **factory)
        self.post_layernorm = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)
        self.head = _PoolingHead(config, ops, **factory)

    def forward(self, pixels):
        return self.head(self.post_layernorm(self.encoder(self.embeddings(pixels))))


class _Embeddings(nn.Module):
    def __init__(self, config: SigLIP2Config, ops, **factory):
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.num_patches = (config.image_size // patch) ** 2
        self.patch_embedding = ops.Conv2d(3, width, kernel_size=patch, stride=patch, **factory)
        self.position_embedding = ops.Embedding(self.num_patches, width, **factory)

    def forward(self, pixels):
        patches = rearrange(self.patch_embedding(pixels), "N D h w -> N (h w) D")
        positions = self.position_embedding(torch.arange(self.num_patches, device=pixels.device))
        return patches + positions.to(patches)


class _Encoder(nn.Module):
    def __init__(self, config: SigLIP2Config, ops, **factory):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config, ops, **factory) for _ in range(config.num_layers))

    def forward(self, tokens):
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class _Layer(nn.Module):
    def __init__(self, config: SigLIP2Config, ops, **factory):
        super().__init__()
        self.layer_norm1 = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)
        self.self_attn = _SelfAttention(config, ops, **factory)
        self.layer_norm2 = ops.LayerNorm(config.hidden_size, eps=EPS, **factory)
        self.mlp = Mlp(config.hidden_size, config.mlp_hidden, "tanh", ops, **factory)

    def forward(self, tokens):
        tokens = tokens + self.self_attn(self.layer_norm1(tokens))
        return tokens + self.mlp(self.layer_norm2(tokens))


class _SelfAttention(nn.Module):
    def __init__(self, config: SigLIP2Config, ops, **factory):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_heads
        self.k_proj = ops.Linear(width, width, **factory)
        self.v_proj = ops.Linear(width, width, **factory)
        self.q_proj = ops.Linear(width, width, **factory)
        self.out_proj = ops.Linear(width, width, **factory)

    def forward(self, tokens):
        mixed = attend(self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens), self.num_heads)
        return self.out_proj(mixed)


class _PoolingHead(nn.Module):
    """A learned query, the probe, gathers all tokens into one."""

    def __init__(self, config: SigLIP2Config, ops, **factory):
        super().__init__()
        width = config.hidden_size
        self.probe = nn.Parameter(torch.empty(1, 1, width, **factory))
        self.attention = PackedAttention(width, config.num_heads, ops, **factory)
        self.layernorm = ops.LayerNorm(width, eps=EPS, **factory)
        self.mlp = Mlp(width, config.mlp_hidden, "tanh", ops, **factory)

    def forward(self, tokens):
        probe = cast(self.probe, tokens).expand(len(tokens), -1, -1)
        pooled = self.attention(probe, tokens)
        pooled = pooled + self.mlp(self.layernorm(pooled))
        return rearrange(pooled, "N 1 D -> N D")
