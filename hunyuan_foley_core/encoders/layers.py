"""What the encoders share: attention over packed heads, the two-layer MLP, and where and in what type to compute."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .. import ops as core_ops
from ..ops import cast


def attend(query, key, value, num_heads: int, mask=None) -> torch.Tensor:
    """Multi-head attention of query [B,Q,D] over key and value [B,K,D]; returns [B,Q,D].

    The scale is head_dim^-0.5; `mask`, if any, is added to the logits [B,H,Q,K].
    """
    query, key, value = (rearrange(x, "B N (H d) -> B H N d", H=num_heads) for x in (query, key, value))
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return rearrange(mixed, "B H N d -> B N (H d)")


class PackedAttention(nn.Module):
    """Cross-attention under the key names of `torch.nn.MultiheadAttention`."""

    def __init__(self, dim: int, num_heads: int, ops=core_ops, **factory):
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim, **factory))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * dim, **factory))
        self.out_proj = ops.Linear(dim, dim, **factory)

    def forward(self, query, tokens):
        """query [B,Q,D] looks at tokens [B,N,D]; returns [B,Q,D]."""
        dim = query.shape[-1]
        weight_q, weight_kv = cast(self.in_proj_weight, query).split([dim, 2 * dim])
        bias_q, bias_kv = cast(self.in_proj_bias, query).split([dim, 2 * dim])
        key, value = F.linear(tokens, weight_kv, bias_kv).chunk(2, dim=-1)
        return self.out_proj(attend(F.linear(query, weight_q, bias_q), key, value, self.num_heads))


class Mlp(nn.Module):
    """Linear, GELU (`approximate` "none" is the exact one, "tanh" the approximation), Linear."""

    def __init__(self, dim: int, hidden: int, approximate: str, ops=core_ops, **factory):
        super().__init__()
        self.approximate = approximate
        self.fc1 = ops.Linear(dim, hidden, **factory)
        self.fc2 = ops.Linear(hidden, dim, **factory)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate=self.approximate))


def compute_placement(module: nn.Module, device=None, dtype=None) -> tuple[torch.device, torch.dtype]:
    """Where and in what type to run `module`: what is asked for, else what its first parameter says.

    Types that are only good for storage become float32: fp8 anywhere, and fp16 on a CPU (5 to 35 times slower there).
    """
    first = next(module.parameters())
    device = torch.device(device or first.device)
    if dtype is None:
        storage_only = first.dtype.itemsize == 1 or (first.dtype == torch.float16 and device.type == "cpu")
        dtype = torch.float32 if storage_only else first.dtype
    return device, dtype
