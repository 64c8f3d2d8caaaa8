"""Synchformer's visual tower: when things move (arXiv 2401.16423; Motionformer, arXiv 2106.05392).

Letters besides MODEL.md's: G segments in a batch, F time steps of a segment (8, two frames each), P patches of a time
step, d width of a head.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from .. import ops as core_ops
from ..config import SynchformerConfig
from ..ops import cast
from ..timing import SEGMENT_FRAMES, SEGMENT_HOP, sync_segments
from .layers import Mlp, PackedAttention, compute_placement
from .preprocess import check_frames, normalise, synchformer_pixels

EPS = 1e-6


class SynchformerVisualTower(nn.Module):
    """Keys as in the released Synchformer, of which `vfeat_extractor.*` is used, without its 2-D `patch_embed`."""

    KNOWN_EXTRA_PREFIXES = ("vfeat_extractor.patch_embed.", "afeat_extractor.", "vproj.", "aproj.", "transformer.")

    def __init__(self, config: SynchformerConfig, ops=core_ops, dtype=None, device=None):
        super().__init__()
        self.config = config
        self.vfeat_extractor = _Motionformer(config, ops, dtype=dtype, device=device)

    def forward(self, segments):
        """Normalised segments [G,3,16,S,S] (colour before time) to tokens [G,8,D], in the segments' type and place."""
        return self.vfeat_extractor(segments)

    @torch.no_grad()
    def encode_frames(self, frames, *, batch_size: int = 2, device=None, dtype=None, callback=None) -> torch.Tensor:
        """Sync tokens of a clip, `batch_size` segments at a time, so that memory does not grow with the clip.

        Segments are 16 frames long and start every 8; frames after the last whole segment are not seen. Of a clip
        shorter than 16 frames the last frame is held.

        Args:
            frames: uint8 [N,3,H,W] RGB of any size, 25 per second.
            device, dtype: where and in what type to compute; None: as the weights are stored (see `compute_placement`).
            callback: called as `callback(segments_done, segments_total)` after each batch; may raise to cancel.

        Returns:
            [S,D] float32 on the CPU, S = 8 * timing.sync_segments(N).

        Raises:
            InputError: the frames are not uint8 [N,3,H,W].
        """
        check_frames(frames)
        device, dtype = compute_placement(self, device, dtype)
        total, tokens, done = sync_segments(len(frames)), [], 0
        for pixels in segment_batches(frames, batch_size, self.config.image_size):
            segments = self(normalise(pixels.to(device), dtype))
            tokens.append(rearrange(segments, "G F D -> (G F) D").float().cpu())
            done += len(pixels)
            if callback:
                callback(done, total)
        return torch.cat(tokens)


def segment_batches(frames, batch_size: int, size: int):
    """Yields segments uint8 [G,3,16,size,size], G <= batch_size, of frames uint8 [N,3,H,W]; each is resized once."""
    total, seen, window = sync_segments(len(frames)), 0, []
    for first in range(0, total, batch_size):
        stop = (min(first + batch_size, total) - 1) * SEGMENT_HOP + SEGMENT_FRAMES
        window = torch.cat([*window, synchformer_pixels(frames[seen:stop], size)])
        window = torch.cat([window, window[-1:].expand(max(0, SEGMENT_FRAMES - len(window)), -1, -1, -1)])
        yield rearrange(window.unfold(0, SEGMENT_FRAMES, SEGMENT_HOP), "G C H W T -> G C T H W").contiguous()
        window, seen = [window[SEGMENT_HOP - SEGMENT_FRAMES:]], stop


class _Motionformer(nn.Module):
    def __init__(self, config: SynchformerConfig, ops, **factory):
        super().__init__()
        width, patches = config.hidden_size, (config.image_size // config.patch_size) ** 2
        self.cls_token = nn.Parameter(torch.empty(1, 1, width, **factory))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + patches, width, **factory))
        self.temp_embed = nn.Parameter(torch.empty(1, config.time_steps, width, **factory))
        self.patch_embed_3d = _TubeletEmbedding(config, ops, **factory)
        self.blocks = nn.ModuleList(_Block(config, ops, **factory) for _ in range(config.num_blocks))
        self.norm = ops.LayerNorm(width, eps=EPS, **factory)
        self.spatial_attn_agg = _FrameAggregator(config, ops, **factory)

    def forward(self, segments):
        tokens, time_steps = self._embed(segments)
        for block in self.blocks:
            tokens = block(tokens, time_steps)
        patches = rearrange(self.norm(tokens[:, 1:]), "G (F P) D -> (G F) P D", F=time_steps)
        return rearrange(self.spatial_attn_agg(patches), "(G F) D -> G F D", F=time_steps)

    def _embed(self, segments):
        """CLS [G,1,D] and patches [G,F*P,D] in one sequence; CLS has a place but no time."""
        patches = self.patch_embed_3d(segments)
        place, time = cast(self.pos_embed, patches), cast(self.temp_embed, patches)
        patches = patches + place[:, None, 1:] + time[:, :, None]
        cls = (cast(self.cls_token, patches) + place[:, :1]).expand(len(patches), -1, -1)
        return torch.cat([cls, rearrange(patches, "G F P D -> G (F P) D")], dim=1), patches.shape[1]


class _TubeletEmbedding(nn.Module):
    def __init__(self, config: SynchformerConfig, ops, **factory):
        super().__init__()
        tubelet = (config.tubelet_size, config.patch_size, config.patch_size)
        self.proj = ops.Conv3d(3, config.hidden_size, kernel_size=tubelet, stride=tubelet, **factory)

    def forward(self, segments):
        return rearrange(self.proj(segments), "G D F h w -> G F (h w) D")


class _Block(nn.Module):
    def __init__(self, config: SynchformerConfig, ops, **factory):
        super().__init__()
        width, heads = config.hidden_size, config.num_heads
        self.norm1 = ops.LayerNorm(width, eps=EPS, **factory)
        self.attn = _DividedAttention(width, heads, "F", ops, **factory)
        self.timeattn = _DividedAttention(width, heads, "P", ops, **factory)
        self.norm2 = ops.LayerNorm(width, eps=EPS, **factory)
        self.mlp = Mlp(width, config.mlp_hidden, "none", ops, **factory)
        self.norm3 = ops.LayerNorm(width, eps=EPS, **factory)

    def forward(self, tokens, time_steps: int):
        tokens = tokens + self.timeattn(self.norm3(tokens), time_steps)
        tokens = tokens + self.attn(self.norm1(tokens), time_steps)
        return tokens + self.mlp(self.norm2(tokens))


class _DividedAttention(nn.Module):
    """CLS looks at every token; a patch looks at CLS and at the patches that share its time step or its place.

    Args:
        shared: what the patches of one group have in common, "F" the time step or "P" the place.
    """

    def __init__(self, dim: int, num_heads: int, shared: str, ops=core_ops, **factory):
        super().__init__()
        self.num_heads = num_heads
        self.grouped = {"F": "(G F) H P d", "P": "(G P) H F d"}[shared]
        self.qkv = ops.Linear(dim, 3 * dim, **factory)
        self.proj = ops.Linear(dim, dim, **factory)

    def forward(self, tokens, time_steps: int):
        query, key, value = rearrange(self.qkv(tokens), "G N (x H d) -> x G H N d", x=3, H=self.num_heads)
        cls = F.scaled_dot_product_attention(query[:, :, :1], key, value)
        key, value = (self._group_with_cls(heads, time_steps) for heads in (key, value))
        patches = F.scaled_dot_product_attention(self._group(query, time_steps), key, value)
        patches = rearrange(patches, f"{self.grouped} -> G (F P) (H d)", G=len(tokens))
        return self.proj(torch.cat([rearrange(cls, "G H 1 d -> G 1 (H d)"), patches], dim=1))

    def _group(self, heads, time_steps: int):
        return rearrange(heads[:, :, 1:], f"G H (F P) d -> {self.grouped}", F=time_steps)

    def _group_with_cls(self, heads, time_steps: int):
        patches = self._group(heads, time_steps)
        cls = repeat(heads[:, :, :1], "G H one d -> (G n) H one d", n=len(patches) // len(heads))
        return torch.cat([cls, patches], dim=2)


class _FrameAggregator(nn.Module):
    """One pre-norm transformer layer that gathers the patches of a time step into a CLS token.

    Only CLS is read afterwards, so only CLS is a query: the same numbers for a 197th of the work.
    """

    def __init__(self, config: SynchformerConfig, ops, **factory):
        super().__init__()
        width = config.hidden_size
        self.cls_token = nn.Parameter(torch.empty(1, 1, width, **factory))
        self.self_attn = PackedAttention(width, config.num_heads, ops, **factory)
        self.linear1 = ops.Linear(width, config.aggregator_mlp_hidden, **factory)
        self.linear2 = ops.Linear(config.aggregator_mlp_hidden, width, **factory)
        self.norm1 = ops.LayerNorm(width, eps=EPS, **factory)
        self.norm2 = ops.LayerNorm(width, eps=EPS, **factory)

    def forward(self, patches):
        """patches [N,P,D] to [N,D]."""
        cls = cast(self.cls_token, patches).expand(len(patches), -1, -1)
        tokens = self.norm1(torch.cat([cls, patches], dim=1))
        cls = cls + self.self_attn(tokens[:, :1], tokens)
        cls = cls + self.linear2(F.gelu(self.linear1(self.norm2(cls))))
        return rearrange(cls, "N 1 D -> N D")
