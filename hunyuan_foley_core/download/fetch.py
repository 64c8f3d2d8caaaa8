"""Carrying out a plan, one file after the other."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ..errors import DownloadError, WrongHashError
from . import transfer
from .hub import Hub
from .plan import Item, Plan, converted

Progress = Callable[[str, int, int], None]  # (what is done, bytes done, bytes in all); raising stops
SECONDS_BETWEEN_LOOKS = 0.5  # at whether another download is done


def carry_out(plan: Plan, hub: Hub, progress: Progress, pause: transfer.Pause = time.sleep) -> list[Path]:
    """Brings every file to its place, whole and with the hash that the hub names; where they are.

    Stopped at any time, it leaves no file under its final name that is not whole, and goes on from there later.

    Raises:
        DownloadError, NoRoomError, UnwritableError: with the reason; what arrived is kept.
    """
    plan.check_room()
    return [_bring(item, hub, progress, pause) for item in plan.items]


def _bring(item: Item, hub: Hub, progress: Progress, pause: transfer.Pause) -> Path:
    convert = bool(item.released.convert)
    path = _there(item, progress)
    if path is not None and (path == item.target or not convert):
        return path
    with _alone(item, progress):
        if convert and converted(item.target, item.file):  # by another download, while this one waited
            return item.target
        left = replace(item, found=item.original if item.original.exists() else None)
        path = path or _there(left, progress) or _fetched(item, hub, progress, pause)
        return _convert(item, path, progress) if convert else path


def _checking(item: Item, progress: Progress) -> transfer.Advance:
    return lambda done, total: progress(f"checking {item.file.name}", done, total)


def _there(item: Item, progress: Progress) -> Path | None:
    """The file that the plan found on this machine, if it is the one of the hub."""
    if item.found is None or item.released.convert and item.found == item.target:
        return item.found
    if transfer.is_same(item.found, item.file, _checking(item, progress)):
        return item.found
    if item.found == item.target:
        raise DownloadError(
            f"{item.target} has the size of the {item.file.name} on the hub, but another hash.",
            "No file of yours is overwritten.",
            "It is damaged or another version: delete it or give it another name, and start again.",
        )
    return None


@contextmanager
def _alone(item: Item, progress: Progress) -> Iterator[None]:
    """While no other download brings this file; waits for one that does."""
    from filelock import FileLock, Timeout  # here, because `doctor` runs where nothing is installed

    try:
        item.original.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(item.target.with_name(f".{item.target.name}.lock"))
        while not lock.is_locked:
            try:
                lock.acquire(timeout=SECONDS_BETWEEN_LOOKS)
            except Timeout:
                progress(f"waiting for another download of {item.file.name}", 0, item.file.size)
    except OSError as error:
        raise transfer.unwritable(item.target, error) from error
    try:
        yield
        # While it is held: who waits for it finds the file in its place.
        Path(lock.lock_file).unlink(missing_ok=True)
    finally:
        lock.release()


def _fetched(item: Item, hub: Hub, progress: Progress, pause: transfer.Pause) -> Path:
    """The file of the hub, from its cache on this machine or over the network, checked and in its place."""
    file, name = item.file, item.file.name
    if file.cached is not None and transfer.is_same(file.cached, file, _checking(item, progress)):
        transfer.copy_of_cached(file, item.part)
    elif hub.offline:
        raise WrongHashError(
            f"{file.cached} has another hash than the {file.digest[:12]}... that the hub named.",
            "Expected the very file of the hub.", "Unset HF_HUB_OFFLINE, so that it can be fetched again.",
        )
    else:
        advance = lambda done, total: progress(f"downloading {name}", done, total)  # noqa: E731
        transfer.download(file, hub.headers(), item.part, advance, pause)
        transfer.check(item.part, file, _checking(item, progress))
    transfer.settle(item.part, item.original)
    return item.original


def _convert(item: Item, original: Path, progress: Progress) -> Path:
    from ..convert import convert  # here, because nothing else of a download needs torch

    convert(
        original, item.target, item.released.convert,
        lambda done, total: progress(f"converting {item.file.name}", done, total),
    )
    if original == item.original:  # one that was there before is the user's
        shutil.rmtree(original.parent)
    return item.target
