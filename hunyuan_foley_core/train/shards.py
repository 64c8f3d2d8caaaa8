"""The cache on disk: what it was made with, and shards of clips that are there whole or not at all.

A shard carries the records of its clips, so there is no index to keep in step. Where two records are of the same clip,
because its file or caption changed, the later shard counts. No two shards have the same name, so several processes may
add to a cache, each with clips of its own.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..whole_files import whole
from .errors import TrainingError

MARK, EMPTY_TEXT = "cache.json", "empty_text.safetensors"
FORMAT = 1
DIGITS = 16  # of a fingerprint, hexadecimal

Identity = dict[str, Any]
Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a cached clip beside its tensors.

    Attributes:
        key: the video it is of, and which take.
        state: of the files and the caption it was made from; another one makes the clip anew.
        name: for messages.
        caption: as encoded, with the bandwidth tag if it has one.
        start: seconds into the video.
        bandwidth: in Hz, measured.
        tokens: rows of the text features that are the caption's own; one more, if there is one, is padding.
        shapes: of the tensors.
    """

    key: str
    state: str
    name: str
    caption: str
    start: float
    bandwidth: float
    tokens: int
    shapes: dict[str, list[int]]

    @property
    def video(self) -> str:
        """What all takes and pieces of a video have in common."""
        return self.key.rpartition("#")[0]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip's tensors lie: the shard, and the clip's number in it."""

    shard: Path
    number: int


@dataclass(frozen=True)
class Cache:
    """An opened cache.

    Attributes:
        identity: what it was made with.
        clips: by key and start.
        finished: state by key of the entries of which all clips are there.
    """

    folder: Path
    identity: Identity
    clips: dict[tuple[str, float], tuple[Record, Place]]
    finished: dict[str, str]

    def empty_text(self) -> Tensor:
        """Features [T+1, D] of the empty prompt, the last row being padding's."""
        return load_file(self.folder / EMPTY_TEXT)["text"].float()


def open_cache(folder: Path) -> Cache:
    """Reads what a cache holds, without its tensors.

    Raises:
        TrainingError: no cache, one of another version, or a damaged shard.
    """
    mark = _mark(folder)
    clips, finished, newest, shapes = {}, {}, {}, {}
    for shard in _shards(folder):
        contents = _contents(shard)
        for number, fields in enumerate(contents["clips"]):
            # Few shapes, many clips: each is kept once.
            fields["shapes"] = shapes.setdefault(str(fields["shapes"]), fields["shapes"])
            record = Record(**fields)
            clips[record.key, record.start] = record, Place(shard, number)
            newest[record.key] = record.state
        finished |= contents["finished"]
    # Pieces made before an entry's files changed go with them.
    clips = {at: found for at, found in clips.items() if found[0].state == newest[at[0]]}
    finished = {key: state for key, state in finished.items() if state == newest.get(key)}
    return Cache(folder, mark["identity"], clips, finished)


def create_cache(folder: Path, identity: Identity, empty_text: Tensor) -> Cache:
    """A new cache without clips; its folder is made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write_whole(folder / EMPTY_TEXT, {"text": empty_text.contiguous()}, {})
        with whole(folder / MARK) as temporary:
            temporary.write_text(json.dumps({"format": FORMAT, "identity": identity}, indent=1), encoding="utf-8")
    except OSError as error:
        raise _unwritten(folder, error) from error
    return Cache(folder, identity, {}, {})


def open_shard(path: Path):
    """The tensors of a shard, mapped into memory and read when asked for as `NUMBER.NAME`."""
    try:
        return safe_open(str(path), framework="pt")
    except (SafetensorError, OSError) as error:
        raise TrainingError(
            f"The shard {path} cannot be read: {error}.", "Expected what `prepare` wrote.",
            "Delete this file and run `prepare` again; it makes the missing clips anew.",
        ) from error


class ShardWriter:
    """Gathers clips and writes them, `size` at a time, as the next shard."""

    def __init__(self, folder: Path, size: int):
        self.folder, self.size = folder, size
        self.clips: list[tuple[Record, Tensors]] = []
        self.finished: dict[str, str] = {}

    def add(self, record: Record, tensors: Tensors) -> None:
        self.clips.append((record, tensors))
        if len(self.clips) == self.size:
            self.flush()

    def finish(self, key: str, state: str) -> None:
        """Notes that all clips of an entry were added."""
        self.finished[key] = state

    def flush(self) -> None:
        """Writes what was gathered.

        Raises:
            TrainingError: it cannot be written; the shards written before are untouched.
        """
        if not self.clips and not self.finished:
            return
        tensors = {
            f"{number}.{name}": value.contiguous()
            for number, (_, parts) in enumerate(self.clips) for name, value in parts.items()
        }
        contents = {"clips": [asdict(record) for record, _ in self.clips], "finished": self.finished}
        written = _shards(self.folder)
        number = _number(written[-1]) + 1 if written else 0
        # safetensors wants a tensor, even in a shard that only notes what is finished.
        tensors = tensors or {"none": torch.zeros(1)}
        name = f"shard-{number:06d}-{secrets.token_hex(4)}.safetensors"
        _write_whole(self.folder / name, tensors, {"contents": json.dumps(contents)})
        self.clips, self.finished = [], {}


def digest(tensors: Mapping[str, Tensor]) -> str:
    """A fingerprint of a network's weights, whatever file, device and type they were stored in."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {list(tensor.shape)}".encode())
        total.update(tensor.detach().float().cpu().contiguous().numpy())
    return total.hexdigest()[:DIGITS]


def digest_file(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGITS]


def counted(clips: list[tuple]) -> str:
    """How many clips there are, and a fingerprint of what is said of each, in any order."""
    return f"{len(clips)} clips ({hashlib.sha256(repr(sorted(clips)).encode()).hexdigest()[:DIGITS]})"


def check_identity(cache: Cache, wanted: Identity) -> None:
    """Refuses a cache that was not made with `wanted`; only the parts that this has are compared.

    Raises:
        TrainingError: it names the parts that differ.
    """
    differing = [f"{part} ({cache.identity.get(part)}, now {value})"
                 for part, value in wanted.items() if cache.identity.get(part) != value]
    if differing:
        raise TrainingError(
            f"The cache {cache.folder} was made with another {', another '.join(differing)}.",
            "What is trained on has to come from the same networks and settings throughout.",
            "Go on with those it was made with, or prepare the clips into another folder (in ComfyUI: choose another name).",
        )


def _mark(folder: Path) -> dict[str, Any]:
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"{folder} is no cache of clips.", f"Expected a folder with {MARK}.",
            "Make one with `python -m hunyuan_foley_core prepare DATA CACHE --models FOLDER`.",
        ) from error
    if mark["format"] != FORMAT:
        raise TrainingError(
            f"The cache {folder} has the format {mark['format']}.", f"This version reads {FORMAT}.", "Prepare it again."
        )
    return mark


def _shards(folder: Path) -> list[Path]:
    """In the order they were written, those of several processes in any."""
    return sorted(folder.glob("shard-*.safetensors"))


def _number(shard: Path) -> int:
    return int(shard.name.split("-")[1])


def _contents(shard: Path) -> dict[str, Any]:
    with open_shard(shard) as file:
        return json.loads(file.metadata()["contents"])


def _write_whole(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    try:
        with whole(path, suffix="") as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise _unwritten(path.parent, error) from error


def _unwritten(folder: Path, error: Exception) -> TrainingError:
    return TrainingError(
        f"The cache {folder} cannot be written to: {error}.", "Expected a folder that may be written to, with room.",
        "Make room and start the same command again; it goes on from what is there.",
    )
