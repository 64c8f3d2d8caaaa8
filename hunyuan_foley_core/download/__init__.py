"""Fetching the released weights: the only part of this package that uses the network, and only when it is called.

`huggingface_hub` knows where the hub is, who asks, and what its cache holds; the bytes are moved here, because its own
downloads do not all resume (2.4 begins anew after each stop), report progress or can be cancelled.
"""

from .fetch import carry_out
from .hub import Hub
from .plan import Plan, in_gigabytes, make_plan
from .released import MODELS, NETWORKS

__all__ = ["MODELS", "NETWORKS", "Hub", "Plan", "carry_out", "in_gigabytes", "make_plan"]
