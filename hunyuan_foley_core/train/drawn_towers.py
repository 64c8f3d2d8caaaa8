"""Picture towers that are drawn, not trained: SigLIP2's and Synchformer's networks with weights set by hand and by chance.

Trained to foretell the sound, at this size and in minutes, the towers did worse than so: the quickest way to a smaller
error was to forget the picture. How much moves, and when, tells most: a 1-D convolution over frames that saw nothing but the
sum of all change explained 18 % of the variance of onsets in 100 held-out clips, one on 192 random projections of the
frames and their differences 8 % (2000 clips, 400 updates).
"""

import torch
from torch import Tensor, nn

from ..encoders.siglip2 import SigLIP2VisionTower
from ..encoders.synchformer import SynchformerVisualTower
from .initialisation import keep_variance

BRANCH_SCALE = 0.2  # of SigLIP2's residual branches, so that its features tell what the first filters see
SHAPES = 5.0  # norm of SigLIP2's filters for shapes, which then come out at about 1

# Synchformer's channels, from the first on: differences of two frames, shapes, which time step it is, how much moves in
# that time step, and how much moves at the time where the transformer places the token.
MOTION, SHAPE, STEP = 64, 32, 8
ENERGIES = 12
WIDTH = MOTION + SHAPE + STEP + 2 * ENERGIES
# The strongest 3 % of change, and the spread of shapes, that unit normal filters see in clips of the small world.
STRONG_MOTION, USUAL_SHAPE = 3.518, 5.86
POINTER = 20.0  # makes attention to one time step all but exclusive


@torch.no_grad()
def draw_siglip2(tower: SigLIP2VisionTower, generator: torch.Generator) -> None:
    """Random weights; half of the first filters are blind to an even colour, which would drown the rest."""
    keep_variance(tower, generator, small=("probe", "position_embedding"))
    for key, parameter in tower.named_parameters():
        if key.endswith(("self_attn.out_proj.weight", "fc2.weight")):
            parameter.mul_(BRANCH_SCALE)
    filters = tower.vision_model.embeddings.patch_embedding.weight
    half = len(filters) // 2
    drawn = torch.randn(filters.shape, generator=generator)
    drawn[half:] -= drawn[half:].mean((-2, -1), keepdim=True)
    drawn /= drawn.flatten(1).norm(dim=1)[:, None, None, None]
    filters.copy_(drawn)
    filters[:half].mul_(0.3)
    filters[half:].mul_(SHAPES)


@torch.no_grad()
def draw_synchformer(tower: SynchformerVisualTower, generator: torch.Generator) -> None:
    """Weights that make of each time step's pictures a token of what changes there, how much, and how much did before.

    A segment's tokens are placed half as far apart as the frames they show, because segments overlap by half: the token
    of time step j stands where time step j / 2 was shown. The second block looks that one up.

    Args:
        tower: `WIDTH` wide, with two blocks or more and an MLP of 2 * `MOTION`.
    """
    extractor = tower.vfeat_extractor
    for key, parameter in tower.named_parameters():
        nn.init.ones_(parameter) if parameter.ndim == 1 and key.endswith("weight") else nn.init.zeros_(parameter)
    motion, shape = slice(0, MOTION), slice(MOTION, MOTION + SHAPE)
    step = slice(shape.stop, shape.stop + STEP)
    own, placed = slice(step.stop, step.stop + ENERGIES), slice(step.stop + ENERGIES, WIDTH)
    _draw_filters(extractor.patch_embed_3d.proj.weight, motion, shape, generator)
    extractor.temp_embed[0, :, step] = 2 * torch.eye(STEP)
    _measure_motion(extractor.blocks[0].mlp, motion, own, generator)
    _look_up(extractor.blocks[1].timeattn, step, own, placed)
    gather = extractor.spatial_attn_agg.self_attn  # all queries are 0, so it takes the mean of the patches
    gather.in_proj_weight[2 * WIDTH :] = torch.eye(WIDTH)
    loudness = torch.ones(WIDTH)
    for channels, gain in ((motion, 4.0), (step, 0.2), (own, 12.0), (placed, 8.0)):
        loudness[channels] = gain
    gather.out_proj.weight.copy_(torch.diag(loudness))


def _draw_filters(filters: Tensor, motion: slice, shape: slice, generator: torch.Generator) -> None:
    """Zero-mean filters [D,3,2,h,w]; those for motion take the difference of the two frames."""
    drawn = torch.randn(filters.shape, generator=generator)
    drawn -= drawn.mean((-2, -1), keepdim=True)
    drawn[motion, :, 1] = -drawn[motion, :, 0]
    filters[motion] = drawn[motion] * (0.4 / STRONG_MOTION)
    filters[shape] = drawn[shape] * (0.7 / USUAL_SHAPE)


def _measure_motion(mlp: nn.Module, motion: slice, own: slice, generator: torch.Generator) -> None:
    """GELU(x) + GELU(-x) is near |x|: sums of it over random thirds of the differences."""
    mlp.fc1.weight[:MOTION, motion] = 5 * torch.eye(MOTION)
    mlp.fc1.weight[MOTION:, motion] = -5 * torch.eye(MOTION)
    chosen = (torch.rand(ENERGIES, MOTION, generator=generator) < 0.3).float()
    mean = 0.12 * chosen / chosen.sum(1, keepdim=True)
    mlp.fc2.weight[own] = torch.cat((mean, mean), 1)


def _look_up(attention: nn.Module, step: slice, own: slice, placed: slice) -> None:
    """Copies into token j how much moves in time step j // 2 at the same place."""
    head = WIDTH // attention.num_heads
    for first in range(0, WIDTH, head):
        for j in range(STEP):
            attention.qkv.weight[first + j // 2, step.start + j] = POINTER
            attention.qkv.weight[WIDTH + first + j, step.start + j] = POINTER
    attention.qkv.weight[2 * WIDTH : 2 * WIDTH + ENERGIES, own] = torch.eye(ENERGIES)
    attention.proj.weight[placed, :ENERGIES] = 0.5 * torch.eye(ENERGIES)
