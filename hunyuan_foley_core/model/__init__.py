"""The diffusion transformer."""

from .repetition import different_samples
from .transformer import FoleyTransformer, PreparedConditions

__all__ = ["FoleyTransformer", "PreparedConditions", "different_samples"]
