"""The diffusion transformer."""

from .transformer import FoleyTransformer, PreparedConditions

__all__ = ["FoleyTransformer", "PreparedConditions"]
