"""SigLIP2's picture tower with random weights that keep shapes apart.

Trained to foretell the sound, at this size and in minutes, the tower did worse than so: the quickest way to a smaller error
was to forget the picture.
"""

import torch

from ..encoders.siglip2 import SigLIP2VisionTower
from .initialisation import keep_variance

BRANCH_SCALE = 0.2  # of the residual branches, so that the features tell what the first filters see
SHAPES = 5.0  # norm of the filters for shapes, which then come out at about 1


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
