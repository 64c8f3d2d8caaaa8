"""Which clips to train on: those in a folder, or the lines of a manifest."""

import importlib
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..conditions import BANDWIDTH_TAG
from ..places import files_below
from ..text_files import read_text
from .errors import TrainingError
from .shards import counted

VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg"}
SOUNDS = (".wav", ".flac")
MANIFEST = "manifest.jsonl"
NAMED = 5  # of many files, in a message


@dataclass(frozen=True)
class Entry:
    """A video and what is heard in it.

    Attributes:
        name: for messages; path below the folder or as the manifest has it.
        audio: the file with the sound, the video itself where it has its own.
        caption: without the bandwidth tag, which is measured.
        take: how many earlier entries have the same video, with other captions perhaps.
    """

    name: str
    video: Path
    audio: Path
    caption: str
    take: int = 0


@dataclass(frozen=True)
class Dataset:
    """What was found.

    Attributes:
        warnings: a sentence for each thing about the entries that looks like a mistake.
        skipped: name and reason of what cannot be an entry.
    """

    entries: list[Entry]
    warnings: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)


def read_dataset(source: Path, default_caption: str = "") -> Dataset:
    """Finds the clips of a folder (its `manifest.jsonl`, if there is one) or of a manifest, .jsonl or .parquet.

    Args:
        default_caption: for clips that come without one.

    Raises:
        TrainingError: no such folder or file, no clip in it that can be used, or a line that cannot be understood.
    """
    if source.is_dir():
        listed = source / MANIFEST
        dataset = _from_manifest(listed, default_caption) if listed.is_file() else _from_folder(source, default_caption)
    elif source.suffix.lower() in {*VIDEOS, *SOUNDS} and source.is_file():
        raise TrainingError(
            f"{source} is a single clip.", "Expected a folder of clips, or a manifest.", "Give the folder of the clips."
        )
    elif source.is_file():
        dataset = _from_manifest(source, default_caption)
    else:
        raise TrainingError(f"There is no folder or file {source}.", "Expected clips or a manifest.", "Check the path.")
    if dataset.skipped and not dataset.entries:
        name, reason = dataset.skipped[0]
        raise TrainingError(f"None of the clips of {source} can be used. The first is {name}: {reason}")
    if not dataset.entries:
        raise TrainingError(
            f"{source} has no clip.", f"Expected videos ({', '.join(sorted(VIDEOS))}) or a manifest that lists some.",
            "Check the path.",
        )
    return dataset


def described(entries: list[Entry]) -> str:
    """Changes with the names, files and captions of the entries, and not with the folder that they are in."""
    return counted([(entry.name, entry.caption, entry.take, _stamp(entry.video), _stamp(entry.audio)) for entry in entries])


def _stamp(path: Path) -> tuple[int, ...]:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else ()


def _from_folder(folder: Path, default_caption: str) -> Dataset:
    """Videos at any depth; sound and caption beside each under the same name."""
    paths = [path for path in files_below(folder) if path.is_file()]
    videos = [path for path in paths if path.suffix.lower() in VIDEOS]
    texts = {path.with_suffix(""): path for path in paths if path.suffix.lower() == ".txt"}
    sounds = {path.with_suffix(""): path for path in paths if path.suffix.lower() in SOUNDS}
    entries, skipped = [], []
    for video in videos:
        stem, name = video.with_suffix(""), video.relative_to(folder).as_posix()
        try:
            caption = _read_text(texts[stem]).strip() if stem in texts else default_caption
        except TrainingError as error:
            skipped.append((name, error.reason()))
            continue
        entries.append(Entry(name, video, sounds.get(stem, video), caption))
    stems = {video.with_suffix("") for video in videos}
    strays = [path for stem, path in (texts | sounds).items() if stem not in stems]
    warnings = [f"No video belongs to {_some(strays, folder)}."] if strays else []
    return Dataset(entries, warnings + _without_caption(entries), skipped)


def _from_manifest(path: Path, default_caption: str) -> Dataset:
    rows = _read_parquet(path) if path.suffix.lower() == ".parquet" else _read_lines(path)
    seen: Counter[Path] = Counter()
    entries = []
    for number, row in enumerate(rows, 1):
        video, audio, caption, tags = (_field(row, name, number, path) for name in ("video", "audio", "caption", "tags"))
        if not video:
            raise TrainingError(
                f"Line {number} of {path.name} names no video.", 'Expected {"video": "clip.mp4", ...}.', "Add it."
            )
        place = path.parent / video
        words = ", ".join([caption or default_caption, *_tags(tags, number, path)]).strip(", ")
        entries.append(Entry(video, place, path.parent / audio if audio else place, words, seen[place]))
        seen[place] += 1
    return Dataset(entries, _without_caption(entries))


def _field(row: dict[str, Any], name: str, number: int, path: Path) -> Any:
    value = row.get(name)
    if value is None or name == "tags" or isinstance(value, str):
        return value
    raise TrainingError(f"Line {number} of {path.name} has the {name} {value!r}.", "Expected text.", "Correct it.")


def _tags(tags: Any, number: int, path: Path) -> list[str]:
    """Words to set behind the caption; the bandwidth tag is left out, because the bandwidth is measured."""
    tags = [tags] if isinstance(tags, str) else [] if tags is None else list(tags) if isinstance(tags, (list, tuple)) else [0]
    if not all(isinstance(tag, str) for tag in tags):
        raise TrainingError(
            f"Line {number} of {path.name} has tags that are no list of texts.", 'Expected ["indoors", ...].', "Correct it."
        )
    return [tag for tag in tags if tag and tag != BANDWIDTH_TAG]


def _read_lines(path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict):
            raise TrainingError(
                f"Line {number} of {path.name} is `{line[:60]}`.",
                'Expected a JSON object such as {"video": "clip.mp4", "caption": "a dog barks"} on each line.',
                "Correct it, or give a folder of clips.",
            )
        rows.append(row)
    return rows


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")  # an extra that only these manifests need
    except ImportError as error:
        raise TrainingError(
            f"{path.name} is Parquet, and pyarrow is not installed.", "It is the package that reads it.",
            "Install it with `pip install pyarrow`, or write the manifest as JSON lines.",
        ) from error
    try:
        return parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise TrainingError(f"{path} cannot be read as Parquet: {error}.", "Expected a table.", "Write it again.") from error


def _read_text(path: Path) -> str:
    try:
        return read_text(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read: {error}.", "Expected text in UTF-8.", "Save it as such.") from error


def _without_caption(entries: list[Entry]) -> list[str]:
    silent = [entry for entry in entries if not entry.caption]
    if not silent:
        return []
    named = ", ".join(entry.name for entry in silent[:NAMED])
    return [f"{len(silent)} of {len(entries)} clips have no caption and teach the picture alone: {named}{_more(silent)}."]


def _some(paths: list[Path], folder: Path) -> str:
    return ", ".join(path.relative_to(folder).as_posix() for path in paths[:NAMED]) + _more(paths)


def _more(items: list) -> str:
    return f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
