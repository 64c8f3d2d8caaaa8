"""The two kinds of transformer blocks. Attribute names are the released checkpoint's keys."""

import torch
from einops import rearrange
from torch import Tensor, nn

from ..config import TransformerConfig
from .frame_conv import frame_conv
from .layers import MLP, Attention, ConvMLP, Modulation, gated, modulate
from .rope import Rotation, Rotations, rotate

# The unimodal norms were built with torch's default, float32's epsilon, whatever the storage dtype.
UNIMODAL_QK_EPS = 1.1920929e-07


def merge_heads(x: Tensor) -> Tensor:
    return rearrange(x, "B H N K -> B N (H K)")


def split_heads(x: Tensor, num_heads: int, parts: int) -> tuple[Tensor, ...]:
    """Fused projections laid out (parts, H, head_dim) -> `parts` tensors [B, N, H, head_dim]."""
    return rearrange(x, "B N (P H K) -> P B N H K", P=parts, H=num_heads).unbind(0)


class MultimodalBlock(nn.Module):
    """Audio and visual streams: joint self-attention, cross-attention to the text, MLP; one modulation per sample."""

    def __init__(self, config: TransformerConfig, ops, **factory):
        super().__init__()
        dim, self.num_heads = config.hidden_size, config.num_heads

        def linear(outputs: int) -> nn.Module:
            return ops.Linear(dim, outputs, **factory)

        def head_norm() -> nn.Module:
            return ops.RMSNorm(config.head_dim, eps=1e-6, **factory)

        def norm() -> nn.Module:
            return ops.LayerNorm(dim, eps=1e-6, elementwise_affine=False, **factory)

        self.audio_mod = Modulation(dim, 9, ops, **factory)
        self.audio_norm1, self.audio_norm2, self.audio_norm3 = norm(), norm(), norm()
        self.audio_self_attn_qkv = linear(3 * dim)
        self.audio_self_q_norm, self.audio_self_k_norm = head_norm(), head_norm()
        self.audio_self_proj = linear(dim)
        self.audio_cross_q, self.audio_cross_q_norm, self.audio_cross_proj = linear(dim), head_norm(), linear(dim)
        self.audio_mlp = MLP(dim, config.mlp_hidden, ops, **factory)

        self.v_cond_mod = Modulation(dim, 9, ops, **factory)
        self.v_cond_norm1, self.v_cond_norm2, self.v_cond_norm3 = norm(), norm(), norm()
        self.v_cond_attn_qkv = linear(3 * dim)
        self.v_cond_attn_q_norm, self.v_cond_attn_k_norm = head_norm(), head_norm()
        self.v_cond_self_proj = linear(dim)
        self.v_cond_cross_q, self.v_cond_cross_q_norm, self.v_cond_cross_proj = linear(dim), head_norm(), linear(dim)
        self.v_cond_mlp = MLP(dim, config.mlp_hidden, ops, **factory)

        self.text_cross_kv = linear(2 * dim)
        self.text_cross_k_norm = head_norm()

    def text_keys_values(self, text: Tensor, table: Rotation) -> tuple[Tensor, Tensor]:
        """Keys and values of the projected text [B, T, D], each [B, H, T, K]; they do not change over the steps."""
        k, v = split_heads(self.text_cross_kv(text), self.num_heads, 2)
        k = rotate(self.text_cross_k_norm(k), table)
        return k.transpose(1, 2).contiguous(), v.transpose(1, 2).contiguous()

    def joint_attention(
        self, audio: Tensor, visual: Tensor, table: Rotation, order: Tensor | None, attention: Attention, both: bool
    ) -> Tensor:
        """Self-attention of [visual, audio], or of the audio alone, over [visual, audio].

        The table holds odd positions for visual, even ones for audio.
        """
        q, k, v = split_heads(self.audio_self_attn_qkv(audio), self.num_heads, 3)
        vq, vk, vv = split_heads(self.v_cond_attn_qkv(visual), self.num_heads, 3)
        if order is not None:
            vq, vk = vq[:, order], vk[:, order]
        q, k = self.audio_self_q_norm(q), self.audio_self_k_norm(k)
        k = rotate(torch.cat((self.v_cond_attn_k_norm(vk), k), dim=1), table)
        if both:
            q = rotate(torch.cat((self.v_cond_attn_q_norm(vq), q), dim=1), table)
        else:
            q = rotate(q, table.after(visual.shape[1]))
        v = torch.cat((vv, v), dim=1)
        return merge_heads(attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)))

    def text_attention(
        self, audio: Tensor, visual: Tensor | None, text: tuple[Tensor, Tensor], table: Rotation, attention: Attention
    ) -> Tensor:
        """Cross-attention of [visual, audio], or of the audio alone, to the text; each stream counts from 0."""
        (q,) = split_heads(self.audio_cross_q(audio), self.num_heads, 1)
        q = self.audio_cross_q_norm(q)
        if visual is not None:
            (vq,) = split_heads(self.v_cond_cross_q(visual), self.num_heads, 1)
            q = torch.cat((self.v_cond_cross_q_norm(vq), q), dim=1)
        return merge_heads(attention(rotate(q, table).transpose(1, 2), *text))

    def forward(
        self,
        audio: Tensor,
        visual: Tensor,
        activated: Tensor,
        text: tuple[Tensor, Tensor],
        tables: Rotations,
        attention: Attention,
        visual_is_read: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Both streams after the block.

        Args:
            audio: [B, L, D]; visual: [B, V, D]; text: keys and values [B, H, T, K].
            activated: silu(time) [B, 1, D].
            visual_is_read: whether anything reads the visual stream that is given back; if not it may come as it was.
        """
        # While the compiler traces it counts as read: the last block would be a compilation of its own.
        both = torch.compiler.is_compiling() or visual_is_read
        shift1, factor1, gate1, shift2, factor2, gate2, shift3, factor3, gate3 = self.audio_mod(activated)
        vshift1, vfactor1, vgate1, vshift2, vfactor2, vgate2, vshift3, vfactor3, vgate3 = self.v_cond_mod(activated)

        def split(out: Tensor) -> tuple[Tensor, Tensor]:
            return out.split((out.shape[1] - audio.shape[1], audio.shape[1]), dim=1)

        visual_out, audio_out = split(self.joint_attention(
            modulate(self.audio_norm1(audio), shift1, factor1),
            modulate(self.v_cond_norm1(visual), vshift1, vfactor1),
            tables.joint, tables.visual_order, attention, both,
        ))
        audio = gated(audio, gate1, self.audio_self_proj(audio_out))
        if both:
            visual = gated(visual, vgate1, self.v_cond_self_proj(visual_out))

        visual_out, audio_out = split(self.text_attention(
            modulate(self.audio_norm2(audio), shift2, factor2),
            modulate(self.v_cond_norm2(visual), vshift2, vfactor2) if both else None,
            text, tables.cross if both else tables.audio, attention,
        ))
        audio = gated(audio, gate2, self.audio_cross_proj(audio_out))
        if both:
            visual = gated(visual, vgate2, self.v_cond_cross_proj(visual_out))

        audio = gated(audio, gate3, self.audio_mlp(modulate(self.audio_norm3(audio), shift3, factor3)))
        if both:
            visual = gated(visual, vgate3, self.v_cond_mlp(modulate(self.v_cond_norm3(visual), vshift3, vfactor3)))
        return audio, visual


class UnimodalBlock(nn.Module):
    """Audio alone, modulated per token by time and sync features; convolutions in place of linear layers.

    Latent frames share sync tokens, so the modulation is computed once per different sync token (24 a second at most,
    not 50) and then handed to the frames.
    """

    def __init__(self, config: TransformerConfig, ops, **factory):
        super().__init__()
        dim, self.num_heads = config.hidden_size, config.num_heads
        self.modulation = Modulation(dim, 6, ops, **factory)
        self.norm1 = ops.LayerNorm(dim, eps=1e-5, elementwise_affine=False, **factory)
        self.linear_qkv = ops.Linear(dim, 3 * dim, **factory)
        self.q_norm = ops.RMSNorm(config.head_dim, eps=UNIMODAL_QK_EPS, **factory)
        self.k_norm = ops.RMSNorm(config.head_dim, eps=UNIMODAL_QK_EPS, **factory)
        self.linear1 = frame_conv(ops.Conv1d)(dim, dim, kernel_size=3, padding=1, **factory)
        self.norm2 = ops.LayerNorm(dim, eps=1e-5, elementwise_affine=False, **factory)
        self.linear2 = ConvMLP(dim, config.conv_mlp_hidden, 3, ops, **factory)

    def self_attention(self, audio: Tensor, table: Rotation, attention: Attention) -> Tensor:
        # Unlike the multimodal blocks, q, k and v are innermost here.
        q, k, v = rearrange(self.linear_qkv(audio), "B L (H K P) -> P B L H K", P=3, H=self.num_heads).unbind(0)
        q, k = rotate(self.q_norm(q), table), rotate(self.k_norm(k), table)
        out = merge_heads(attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2).contiguous()))
        return self.linear1(out.transpose(1, 2)).transpose(1, 2)

    def forward(
        self, audio: Tensor, activated: Tensor, sync_order: Tensor, table: Rotation, attention: Attention
    ) -> Tensor:
        """audio [B, L, D], activated = silu(sync + time) [U, D], sync_order which of these each frame has [B, L]."""
        order = sync_order.flatten()
        modulation = (part.index_select(0, order).view_as(audio) for part in self.modulation(activated))
        shift1, factor1, gate1, shift2, factor2, gate2 = modulation
        update = self.self_attention(modulate(self.norm1(audio), shift1, factor1), table, attention)
        audio = gated(audio, gate1, update)
        return gated(audio, gate2, self.linear2(modulate(self.norm2(audio), shift2, factor2)))
