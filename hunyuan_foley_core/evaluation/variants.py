"""The small model with one part of the paper's design taken away or moved; inference knows nothing of these."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import TransformerConfig
from ..model import FoleyTransformer
from ..model.rope import Rotations
from ..model.transformer import PreparedConditions
from ..train.flow import FlowConfig, Reader


class SeparateRotations(FoleyTransformer):
    """Without interleaved RoPE: in the joint attention pictures and sound count their positions each from 0."""

    def rotations(self, visual_tokens: int, latent_frames: int, device: torch.device | str) -> Rotations:
        tables = super().rotations(visual_tokens, latent_frames, device)
        return tables._replace(joint=tables.cross, visual_order=None)


class WithoutSync(FoleyTransformer):
    """Synchformer's features are always the learned empty ones, in training and in use."""

    def prepare(self, text: Tensor, visual: Tensor, sync: Tensor, latent_frames: int) -> PreparedConditions:
        empty = self.empty_sync(sync.shape[1]).expand(len(sync), -1, -1).to(sync)
        return super().prepare(text, visual, empty, latent_frames)


class MultimodalReader(Reader):
    """Reads for REPA the audio that a multimodal block gives; `block` counts these from 1."""

    def __call__(self, kind: str, index: int, block: torch.nn.Module, *inputs):
        output = super().__call__(kind, index, block, *inputs)
        if kind == "double_block" and index + 1 == self.block:
            self.hidden = output[0]
        return output


@dataclass(frozen=True)
class Variant:
    """A row of the ablation.

    Attributes:
        what: in words.
        network: the transformer's class.
        change: of the configuration of the full model.
        reader: what reads hidden states for REPA.
        unguided: whether it is sampled without guidance as well.
    """

    what: str
    network: type[FoleyTransformer] = FoleyTransformer
    change: Callable[[FlowConfig], FlowConfig] = lambda config: config
    reader: type[Reader] = Reader
    unguided: bool = False


def without_unimodal(config: FlowConfig) -> FlowConfig:
    """Multimodal blocks in place of the unimodal ones, as many as come nearest to the same number of parameters.

    REPA reads at the same depth, blocks of both kinds counted together.
    """
    model, before = config.model, config.model.num_multimodal_blocks
    bare = replace(model, num_unimodal_blocks=0)
    one = parameters(replace(bare, num_multimodal_blocks=before + 1)) - parameters(bare)
    blocks = before + round((parameters(model) - parameters(bare)) / one)
    repa = replace(config.repa, block=min(before + config.repa.block, blocks))
    return replace(config, model=replace(bare, num_multimodal_blocks=blocks), repa=repa)


def parameters(model: TransformerConfig) -> int:
    """Numbers that a transformer of these sizes learns."""
    return sum(parameter.numel() for parameter in FoleyTransformer(model, device="meta").parameters())


def without_repa(config: FlowConfig) -> FlowConfig:
    return replace(config, repa=replace(config.repa, weight=0.0))


def deeper_repa(config: FlowConfig) -> FlowConfig:
    """The unimodal block before the last; the paper's block 8 of 36 against 16 and 12 went the same way."""
    return replace(config, repa=replace(config.repa, block=max(config.model.num_unimodal_blocks - 1, 1)))


def without_dropout(config: FlowConfig) -> FlowConfig:
    return replace(config, objective=replace(config.objective, visual_dropout=0.0, text_dropout=0.0))


VARIANTS = {
    "full": Variant("full"),
    "no_interleaving": Variant("without interleaved RoPE", SeparateRotations),
    "no_sync": Variant("without sync features", WithoutSync),
    "no_unimodal": Variant("multimodal blocks in place of the unimodal ones", change=without_unimodal, reader=MultimodalReader),
    "no_repa": Variant("without REPA", change=without_repa),
    "deeper_repa": Variant("REPA at a deeper block", change=deeper_repa),
    "no_dropout": Variant("without guidance dropout", change=without_dropout, unguided=True),
}
