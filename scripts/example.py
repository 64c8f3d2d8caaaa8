"""Videos to try the small model on, of its own synthetic world and of seeds that nothing was trained on."""

from itertools import chain
from pathlib import Path

from hunyuan_foley_core.data.world import Clip, make_clip, write_frames

SEED, SECONDS, RATE = 952_560, 4.0, 25.0  # hits of a hammer on glass, and a wooden ball that bounces
SIZE = (360, 640)
SCENE_SEEDS, SCENE_SECONDS = (960_133, 960_104, 960_155), 8.0  # knocks on glass, hits of a hammer on stone, knocks on metal
NAME, SCENES_NAME = "foley_example.mp4", "foley_scenes_example.mp4"


def clip() -> Clip:
    return make_clip(SEED, SECONDS, RATE, SIZE)


def scenes() -> list[Clip]:
    """What follows one another in the longer video, with a hard cut between."""
    return [make_clip(seed, SCENE_SECONDS, RATE, SIZE) for seed in SCENE_SEEDS]


def write(path: Path) -> None:
    """Writes the picture of `clip`, as H.264; nothing is left at `path` if that is interrupted."""
    _write([clip()], path)


def write_scenes(path: Path) -> None:
    """As `write`, of all `scenes`."""
    _write(scenes(), path)


def _write(clips: list[Clip], path: Path) -> None:
    partial = path.with_name(f"partial-{path.name}")
    write_frames(chain.from_iterable(clip.frames() for clip in clips), RATE, SIZE, partial)
    partial.replace(path)


WRITERS = {NAME: write, SCENES_NAME: write_scenes}
