"""Clips of the small world on disk, as the training's data preparation reads them."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .. import media
from ..errors import InputError, MediaError
from ..media.output import replacing
from ..timing import SAMPLE_RATE
from .actions import MOST_THINGS
from .world import check_even, make_clip, write_picture

MANIFEST = "manifest.jsonl"

Callback = Callable[[int, int], None]


def write_dataset(
    folder, seeds: Iterable[int], seconds: float, fps: float = 25.0, size: tuple[int, int] = (128, 128), *,
    look: str = "full", things: int = MOST_THINGS, callback: Callback | None = None,
) -> Path:
    """Writes clips as silent H.264 with their exact sound beside them, and a manifest with their captions.

    Names tell the settings, so that clips of several rates, sizes and looks can share a folder. Clips that the manifest
    has are kept, so a stopped run goes on; nothing of the truth about a clip is written.

    Args:
        size: height and width in pixels, both even.
        look, things: see `make_clip`.
        callback: called after each clip with (done, of); may raise to stop.

    Returns:
        The manifest: a line for each clip of the folder, {"video", "audio", "caption"} with paths relative to it.

    Raises:
        InputError: settings that `make_clip` or H.264 do not take.
        MediaError: a file cannot be written.
    """
    folder, seeds = Path(folder), list(seeds)
    check_even(size)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = {line["video"]: line for line in _read(folder / MANIFEST) if _is_there(folder, line)}
        with replacing(folder / MANIFEST) as temporary:
            temporary.write_text("".join(map(_line, written.values())), encoding="utf-8")
        with (folder / MANIFEST).open("a", encoding="utf-8") as manifest:
            for done, seed in enumerate(seeds, 1):
                few = "" if things == MOST_THINGS else f"-{things}"
                name = f"{seed:08d}-{seconds:g}s-{fps:g}fps-{size[1]}x{size[0]}-{look}{few}.mp4"
                if name not in written:
                    clip = make_clip(seed, seconds, fps, size, look=look, things=things)
                    manifest.write(_line(_write(folder / name, clip)))
                    manifest.flush()
                if callback is not None:
                    callback(done, len(seeds))
    except OSError as error:
        raise MediaError(
            f"{folder} cannot be written to ({error.strerror or error}).", "Expected a folder with room.",
            "Make room and start the same command again; it goes on from there.",
        ) from error
    return folder / MANIFEST


def _write(path: Path, clip) -> dict[str, str]:
    """Sound first: a video that is there has its sound."""
    sound = path.with_suffix(".wav")
    media.write_audio(sound, clip.waveform[None], SAMPLE_RATE)
    with replacing(path) as temporary:
        write_picture(clip, temporary, preset="ultrafast")
    return {"video": path.name, "audio": sound.name, "caption": clip.caption}


def _line(entry: dict[str, str]) -> str:
    return json.dumps(entry) + "\n"


def _read(manifest: Path) -> list[dict[str, Any]]:
    """The lines of a manifest, without one that a kill cut short."""
    lines = []
    try:
        texts = manifest.read_text(encoding="utf-8").splitlines() if manifest.is_file() else []
    except UnicodeDecodeError as error:
        raise InputError(
            f"{manifest} is there and was not written by this command ({error}).", "It is not overwritten.",
            "Move it away, or choose another folder.",
        ) from error
    for text in texts:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


def _is_there(folder: Path, line: dict[str, Any]) -> bool:
    return all(os.path.isfile(folder / line[kind]) for kind in ("video", "audio"))
