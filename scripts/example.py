"""A clip of the synthetic world to try the small model on: hits of a hammer on glass, and a wooden ball that bounces."""

from pathlib import Path

from hunyuan_foley_core.data.world import Clip, make_clip, write_picture

SEED, SECONDS, RATE = 952_560, 4.0, 25.0  # a seed that nothing was trained on
SIZE = (360, 640)


def clip() -> Clip:
    return make_clip(SEED, SECONDS, RATE, SIZE)


def write(path: Path) -> None:
    """Writes the picture alone, as H.264; nothing is left at `path` if that is interrupted."""
    partial = path.with_name(f"partial-{path.name}")
    write_picture(clip(), partial)
    partial.replace(path)
