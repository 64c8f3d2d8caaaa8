"""What can go wrong while training, in the words of `FoleyError`."""

from ..errors import FoleyError


class TrainingError(FoleyError):
    """A run cannot start, cannot go on, or cannot be written."""
