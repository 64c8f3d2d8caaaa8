"""The HunyuanVideo-Foley transformer (arXiv 2508.16930): latents, text, visual and sync features -> velocity.

A generation calls `prepare` once and `denoise` at every step; `forward` is the two in a row.
Letters: B batch, C latent channels, L latent frames, V visual tokens, S sync tokens, T text tokens, D hidden size.
"""

from dataclasses import dataclass, replace
from typing import Any, Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .. import ops as casting_ops
from ..config import TransformerConfig
from ..errors import InputError
from ..windows import WindowSettings
from .blocks import MultimodalBlock, UnimodalBlock
from .layers import Attention, ConvMLP, FinalLayer, SwiGLU, TextProjection, TimestepEmbedder, torch_attention
from .repetition import different_tokens
from .rope import Rotations, interleaved_visual, nearest_indices, rotation

CallBlock = Callable[..., Any]  # (kind, index, block, *inputs) -> what the block returns


@dataclass(frozen=True)
class PreparedConditions:
    """Everything that stays the same over the steps of a generation.

    Attributes:
        text: per multimodal block, keys and values [B, H, T, K].
        visual: projected visual tokens [B, V, D].
        sync: projected sync tokens, brought to the latent's length [B, L, D].
        sync_tokens: the projected sync tokens [U, D], each different one once.
        sync_order: which of them each latent frame of each sample got [B, L].
        sync_samples: whose time goes with each of them [U]; None: all samples are at the same time.
        rotations: RoPE tables.
    """

    text: tuple[tuple[Tensor, Tensor], ...]
    visual: Tensor
    sync: Tensor
    sync_tokens: Tensor
    sync_order: Tensor
    sync_samples: Tensor | None
    rotations: Rotations

    def of_samples(self, samples: list[int]) -> "PreparedConditions":
        """The conditions of some samples, any of them several times, for steps that take all to the same time.

        Samples with the same conditions then share the sync tokens, and with them the unimodal blocks' modulation.
        """
        shared = replace(self, sync_samples=None)
        if samples == list(range(len(self.visual))):
            return shared
        rows = torch.tensor(samples, device=self.visual.device)
        return replace(
            shared, text=tuple((keys[rows], values[rows]) for keys, values in self.text),
            visual=self.visual[rows], sync=self.sync[rows], sync_order=self.sync_order[rows],
        )


def call_directly(kind: str, index: int, block: nn.Module, *inputs):
    return block(*inputs)


class AudioEmbedder(nn.Module):
    def __init__(self, latent_channels: int, hidden_size: int, ops, **factory):
        super().__init__()
        self.proj = ops.Conv1d(latent_channels, hidden_size, kernel_size=1, **factory)

    def forward(self, latents: Tensor) -> Tensor:
        # Contiguous, as every layer that reads the stream wants it: otherwise each would copy it.
        return rearrange(self.proj(latents), "B D L -> B L D").contiguous()


class FoleyTransformer(nn.Module):
    """Multimodal blocks over audio and visual tokens, then unimodal blocks over audio, as in the paper's figure.

    Args:
        config: sizes, usually from `TransformerConfig.from_state_dict`.
        ops: namespace the layers are taken from (`torch.nn`, `comfy.ops`, or this package's `ops`).
        dtype, device: of the parameters.

    Attributes:
        windows: in which parts the weights make sound that is longer than they know; who loads weights that say so sets it.
    """

    windows = WindowSettings()

    def __init__(self, config: TransformerConfig, ops=casting_ops, dtype=None, device=None):
        super().__init__()
        factory = dict(dtype=dtype, device=device)
        dim = config.hidden_size
        self.config = config
        self.empty_clip_feat = nn.Parameter(torch.empty(1, config.visual_dim, **factory))
        self.empty_sync_feat = nn.Parameter(torch.empty(1, config.sync_dim, **factory))
        self.sync_pos_emb = nn.Parameter(torch.empty(1, 1, config.sync_tokens_per_segment, config.sync_dim, **factory))
        self.audio_embedder = AudioEmbedder(config.latent_channels, dim, ops, **factory)
        self.visual_proj = SwiGLU(config.visual_dim, dim, ops, **factory)
        self.cond_in = TextProjection(config.text_dim, dim, ops, **factory)
        self.time_in = TimestepEmbedder(config.time_frequencies, dim, ops, **factory)
        self.sync_in = nn.Sequential(
            ops.Linear(config.sync_dim, dim, **factory), nn.SiLU(), ConvMLP(dim, config.sync_mlp_hidden, 1, ops, **factory)
        )
        self.triple_blocks = nn.ModuleList(
            MultimodalBlock(config, ops, **factory) for _ in range(config.num_multimodal_blocks)
        )
        self.single_blocks = nn.ModuleList(
            UnimodalBlock(config, ops, **factory) for _ in range(config.num_unimodal_blocks)
        )
        self.final_layer = FinalLayer(dim, config.latent_channels, ops, **factory)

    def empty_visual(self, tokens: int) -> Tensor:
        """The learned stand-in for absent visual features, [1, tokens, visual_dim]."""
        return self.empty_clip_feat[None].expand(1, tokens, -1)

    def empty_sync(self, tokens: int) -> Tensor:
        """The learned stand-in for absent sync features, [1, tokens, sync_dim]."""
        return self.empty_sync_feat[None].expand(1, tokens, -1)

    def project_sync(self, sync: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Projects sync features [B, S, sync_dim].

        Returns:
            The different tokens [U, D], the sample that each belongs to [U], and where they stand [B, S].
        """
        segments = rearrange(sync, "B (N P) C -> B N P C", P=self.config.sync_tokens_per_segment)
        tokens = rearrange(segments + self.sync_pos_emb.to(sync), "B N P C -> B (N P) C")
        first, order = different_tokens(tokens)
        # The convolutions leave channels before tokens; every block multiplies by this again, and rows are faster.
        projected = self.sync_in(tokens.flatten(0, 1)[None, first])[0].contiguous()
        return projected, first // sync.shape[1], order

    def rotations(self, visual_tokens: int, latent_frames: int, device: torch.device | str) -> Rotations:
        head_dim = self.config.head_dim
        audio = torch.arange(latent_frames, device=device)
        visual = torch.arange(visual_tokens, device=device)
        odd, order = interleaved_visual(visual_tokens, latent_frames, device)
        return Rotations(
            joint=rotation(torch.cat((odd, 2 * audio)), head_dim),
            cross=rotation(torch.cat((visual, audio)), head_dim),
            audio=rotation(audio, head_dim),
            visual_order=order,
        )

    def prepare(self, text: Tensor, visual: Tensor, sync: Tensor, latent_frames: int) -> PreparedConditions:
        """Does the work that no step changes.

        Args:
            text: [B, T, text_dim]; visual: [B, V, visual_dim]; sync: [B, S, sync_dim], S a multiple of 8.
            latent_frames: L.

        Raises:
            InputError: a width or length that the model does not take.
        """
        self.check_conditions(text, visual, sync)
        table = rotation(torch.arange(text.shape[1], device=text.device), self.config.head_dim)
        projected_text = self.cond_in(text)
        sync_tokens, sync_samples, places = self.project_sync(sync)
        sync_order = places[:, nearest_indices(sync.shape[1], latent_frames, sync.device)]
        return PreparedConditions(
            text=tuple(block.text_keys_values(projected_text, table) for block in self.triple_blocks),
            visual=self.visual_proj(visual),
            sync=sync_tokens[sync_order],
            sync_tokens=sync_tokens,
            sync_order=sync_order,
            sync_samples=sync_samples,
            rotations=self.rotations(visual.shape[1], latent_frames, visual.device),
        )

    def denoise(
        self,
        latents: Tensor,
        timestep: Tensor,
        prepared: PreparedConditions,
        *,
        attention: Attention = torch_attention,
        call_block: CallBlock = call_directly,
    ) -> Tensor:
        """Velocity [B, C, L] at one step.

        Args:
            latents: [B, C, L]; timestep: [B], model time in 0..1000; prepared: from `prepare`, for the same B and L.
            attention: the attention function, for hosts that bring their own.
            call_block: called as (kind, index, block, *inputs) with kind `double_block` or `single_block`, so that a
                host can skip or replace blocks. A multimodal block's last input says whether its visual stream is read.
        """
        tables = prepared.rotations
        time = self.time_in(timestep, latents.dtype)
        audio = self.audio_embedder(latents) + prepared.sync
        visual = prepared.visual

        activated = F.silu(time)[:, None]
        for index, (block, text) in enumerate(zip(self.triple_blocks, prepared.text)):
            visual_is_read = index + 1 < len(self.triple_blocks)  # after these, nothing does
            audio, visual = call_block(
                "double_block", index, block, audio, visual, activated, text, tables, attention, visual_is_read
            )

        token_time = time[:1] if prepared.sync_samples is None else time[prepared.sync_samples]
        activated = F.silu(prepared.sync_tokens + token_time)
        for index, block in enumerate(self.single_blocks):
            audio = call_block(
                "single_block", index, block, audio, activated, prepared.sync_order, tables.audio, attention
            )
        return self.final_layer(audio)

    def forward(
        self, latents: Tensor, timestep: Tensor, *, text: Tensor, visual: Tensor, sync: Tensor,
        call_block: CallBlock = call_directly,
    ) -> Tensor:
        """Velocity [B, C, L] for latents [B, C, L] at model time timestep [B], under text, visual and sync features."""
        prepared = self.prepare(text, visual, sync, latents.shape[-1])
        return self.denoise(latents, timestep, prepared, call_block=call_block)

    def check_conditions(self, text: Tensor, visual: Tensor, sync: Tensor) -> None:
        expected = dict(text=self.config.text_dim, visual=self.config.visual_dim, sync=self.config.sync_dim)
        for (name, width), tensor in zip(expected.items(), (text, visual, sync)):
            if tensor.ndim != 3 or tensor.shape[-1] != width:
                raise InputError(
                    f"The {name} features have the shape {list(tensor.shape)}.",
                    f"This transformer takes [batch, tokens, {width}].",
                    "Use the encoders this model was trained with; another size of the same encoder does not fit.",
                )
        if sync.shape[1] % self.config.sync_tokens_per_segment:
            raise InputError(
                f"There are {sync.shape[1]} sync tokens.",
                f"Expected a multiple of {self.config.sync_tokens_per_segment}, the tokens of one segment.",
                "Pass the sync features of whole segments.",
            )
