"""Representation alignment (REPA, arXiv 2410.06940): hidden states are asked to tell what a frozen teacher hears.

Letters: D hidden size, Dw width of the teacher's features, F its frames.
"""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .. import ops as casting_ops


class Projector(nn.Module):
    """Hidden states [B,L,D] to the teacher's width [B,L,Dw]; used while training only.

    Args:
        hidden_size: D.
        width: of the two layers between; 2048 in the paper.
        teacher_size: Dw.
    """

    def __init__(self, hidden_size: int, width: int, teacher_size: int, ops=casting_ops, dtype=None, device=None):
        super().__init__()
        factory = dict(dtype=dtype, device=device)
        self.layers = nn.Sequential(
            ops.Linear(hidden_size, width, **factory), nn.SiLU(),
            ops.Linear(width, width, **factory), nn.SiLU(),
            ops.Linear(width, teacher_size, **factory),
        )

    def forward(self, hidden: Tensor) -> Tensor:
        return self.layers(hidden)


def alignment_loss(projected: Tensor, features: Tensor) -> Tensor:
    """-mean cosine of projected hidden states [B,L,Dw] and the teacher's features [B,F,Dw]: -1 where they agree.

    The features cover the same time; where F is not L they are interpolated linearly between the frames' centres.
    """
    if features.shape[1] != projected.shape[1]:
        features = rearrange(features, "B F D -> B D F")
        features = F.interpolate(features, projected.shape[1], mode="linear", align_corners=False)
        features = rearrange(features, "B D L -> B L D")
    return -F.cosine_similarity(projected.float(), features.float(), dim=-1).mean()
