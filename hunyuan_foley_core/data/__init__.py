"""A small world of synthetic clips to train and score on. Nothing that makes sound for a user imports this."""

from .dataset import write_dataset
from .world import Clip, make_clip, write_clip, write_sounds

__all__ = ["Clip", "make_clip", "write_clip", "write_dataset", "write_sounds"]
