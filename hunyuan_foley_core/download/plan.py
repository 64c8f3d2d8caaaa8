"""What is to be done before anything is: each file, where it comes from, how large it is, and where it goes."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DownloadError, NoRoomError
from ..places import files_below
from .hub import Hub, HubFile, Repository
from .released import MODELS, NOTES, Released
from .transfer import size_of

THERE, CACHED, TO_FETCH = "is there already", "is in the cache of Hugging Face", "to be downloaded"
FP8_SHARE = 0.75  # of the bf16 file, which is what an fp8 file of it takes at most


@dataclass(frozen=True)
class Item:
    """A file of the plan.

    Attributes:
        target: where it will be when all is done.
        original: for a file that is converted, where the hub's goes before; else the target.
        state: one of `THERE`, `CACHED` and `TO_FETCH`.
        found: for `THERE`, the file itself.
    """

    released: Released
    file: HubFile
    target: Path
    original: Path
    state: str
    found: Path | None = None

    @property
    def part(self) -> Path:
        """Where its bytes gather; the hash in its name keeps versions of a file apart."""
        return self.original.with_name(f".{self.original.name}.{self.file.digest[:12]}.part")

    @property
    def needed(self) -> int:
        """Bytes that the disk has to take yet."""
        if self.state == THERE and self.found == self.target:
            return 0
        here = {THERE: self.file.size, CACHED: 0, TO_FETCH: size_of(self.part)}[self.state]
        return max(self.file.size - here, 0) + (int(self.file.size * FP8_SHARE) if self.released.convert else 0)


@dataclass(frozen=True)
class Plan:
    """All files of a model, with the licences of the repositories that they come from."""

    model: str
    items: list[Item]
    licences: dict[str, str]

    @property
    def to_fetch(self) -> int:
        """In bytes."""
        return sum(item.file.size - size_of(item.part) for item in self.items if item.state == TO_FETCH)

    def listing(self) -> str:
        """For the user, before anything is done."""
        lines = [f"The files of the model {self.model}:"]
        for item in self.items:
            made = f", converted to {item.released.convert} here, the original not kept" if item.released.convert else ""
            place = item.target if item.found is None else item.found
            lines += [
                f"  {item.file.name}, {in_gigabytes(item.file.size)}, {item.state}{made}",
                f"      from {item.file.repository}, commit {item.file.commit[:12]}",
                f"      to {place}",
            ]
        lines += ["Their licences:", *(f"  {line}" for line in self.said_of_licences())]
        return "\n".join([*lines, f"{in_gigabytes(self.to_fetch)} to download."])

    def said_of_licences(self) -> list[str]:
        return [
            " ".join(filter(None, (f"{repository}: {licence}.", NOTES.get(repository))))
            for repository, licence in self.licences.items()
        ]

    def check_room(self) -> None:
        """NoRoomError where a disk cannot take what is planned for it."""
        for device, needed in self._needed_by_disk().items():
            free = shutil.disk_usage(device).free
            if free < needed:
                raise NoRoomError(
                    f"The disk of {device} has {in_gigabytes(free)} free, and the files take {in_gigabytes(needed)}.",
                    "Expected room for all of them.", "Make room, or choose a folder on another disk.",
                )

    def _needed_by_disk(self) -> dict[Path, int]:
        disks, needed = {}, {}
        for item in self.items:
            folder = next(parent for parent in item.target.absolute().parents if parent.is_dir())
            folder = disks.setdefault(folder.stat().st_dev, folder)
            needed[folder] = needed.get(folder, 0) + item.needed
        return needed


def in_gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e7 else f"{size / 1e6:.2f} MB"


def make_plan(hub: Hub, model: str, folders: Mapping[str, Sequence[Path]], only: Sequence[str] = ()) -> Plan:
    """Asks the hub what the files are, and this machine what of them it has; changes nothing.

    Args:
        model: one of `released.MODELS`.
        folders: for each folder of `models` the places that count as it; new files go to the first.
        only: networks to bring, as `Released.what` names them; none: all.

    Raises:
        DownloadError: the hub cannot be asked or lacks a file, or a file of ours would take another's name.
    """
    wanted = [released for released in MODELS[model] if not only or released.what in only]
    repositories = {}
    for released in wanted:
        if released.repository not in repositories:
            names = tuple(name for one in wanted if one.repository == released.repository for name in one.names)
            repositories[released.repository] = hub.repository(released.repository, names)
    items = [_item(hub, released, repositories[released.repository], folders) for released in wanted]
    return Plan(model, items, {name: repository.licence for name, repository in repositories.items()})


def _item(hub: Hub, released: Released, repository: Repository, folders: Mapping[str, Sequence[Path]]) -> Item:
    file = hub.choose(repository, released.names)
    folder = folders[released.folder][0]
    suffix = ".safetensors" if released.convert else Path(file.name).suffix
    target = folder / f"{released.saved_as}{suffix}"
    # Its own folder, because a conversion notes the name of what it was made of.
    original = folder / ".foley_download" / file.name if released.convert else target
    found = converted(target, file) if released.convert else None
    found = found or _same_size(file, [place for places in folders.values() for place in places], target, original)
    if found is None and target.exists():
        raise DownloadError(
            f"{target} is there, but it is not the {file.name} of {file.repository}: it has {size_of(target):,} bytes, not "
            f"{file.size:,}.", "No file of yours is overwritten.", "Delete it or give it another name, and start again.",
        )
    state = THERE if found is not None else CACHED if file.cached is not None else TO_FETCH
    return Item(released, file, target, original, state, found)


def converted(target: Path, file: HubFile) -> Path | None:
    """The target of a conversion, if its header says that it was made of this very file."""
    if not target.is_file():
        return None
    try:
        with open(target, "rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        made_of = header["__metadata__"]["source_sha256"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError):
        return None
    return target if made_of == file.digest else None


def _same_size(file: HubFile, places: list[Path], target: Path, original: Path) -> Path | None:
    """A file of exactly this size, which its hash will be asked of later; the one at its own place first."""
    candidates = [target, original]
    for place in places:
        for path in files_below(place):
            hidden = any(part.startswith(".") for part in path.relative_to(place).parent.parts)  # an unfinished conversion
            if not hidden and path.suffix == Path(file.name).suffix:
                candidates.append(path)
    return next((path for path in candidates if size_of(path) == file.size), None)
