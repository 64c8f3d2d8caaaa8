"""Bringing the bytes of one file to this disk: on from where an earlier try stopped, and checked when they are all here."""

import errno
import hashlib
import os
import re
import shutil
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path

from ..errors import DownloadError, NoRoomError, UnreachableError, UnwritableError, WrongHashError
from . import connection
from .hub import SHA256, TIMEOUT, HubFile

BLOCK = 2**20
TRIES = 6  # in a row that bring nothing
WAITS = (0, 1, 2, 4, 8)  # seconds before the next try
GIT_SHA1 = re.compile(r"[0-9a-f]{40}")

Advance = Callable[[int, int], None]  # (bytes done, bytes in all); raising stops, and what is there stays
Pause = Callable[[float], None]


def download(file: HubFile, headers: dict[str, str], part: Path, advance: Advance, pause: Pause = time.sleep) -> None:
    """Makes `part` as long as the file on the hub; what it holds already is taken for the file's beginning.

    Raises:
        DownloadError: of the kind that says what is wrong. NoRoomError, UnwritableError: the disk does not take it.
    """
    if size_of(part) > file.size:
        part.unlink()
    failures = 0
    while size_of(part) < file.size:
        before = size_of(part)
        try:
            _append(file, headers, part, advance)
            failure = UnreachableError(f"The connection ended within {file.name}.", "Expected all of it.", connection.AGAIN)
        except urllib.error.HTTPError as error:
            failure = connection.refusal(error, f"{file.name} of {file.repository}")
            if error.code not in connection.BUSY:
                raise failure from error
        except connection.DROPS as error:
            failure = connection.unreachable(file.url, error)
        failures = 0 if size_of(part) > before else failures + 1
        if failures == TRIES:
            raise failure
        if size_of(part) < file.size:
            pause(WAITS[min(failures, len(WAITS) - 1)])


def size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _append(file: HubFile, headers: dict[str, str], part: Path, advance: Advance) -> None:
    have = size_of(part)
    ranged = headers | ({"Range": f"bytes={have}-"} if have else {})
    with connection.open_url(file.url, ranged, TIMEOUT) as answer:
        if have and not str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-"):
            have = 0  # a server that knows no ranges sends everything
        with _writable(part, have) as target:
            while have < file.size and (block := answer.read1(min(BLOCK, file.size - have))):
                _write(target, block, part)
                have += len(block)
                advance(have, file.size)


def _writable(part: Path, have: int):
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        return open(part, "ab" if have else "wb", buffering=0)
    except OSError as error:
        raise unwritable(part, error) from error


def _write(target, block: bytes, part: Path) -> None:
    view = memoryview(block)
    try:
        while view:
            view = view[target.write(view):]
    except OSError as error:
        raise unwritable(part, error) from error


def unwritable(path: Path, error: OSError) -> NoRoomError | UnwritableError:
    """What an error of the disk means for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoRoomError(
            f"The disk of {path.parent} filled up.", "Expected room for the whole file.",
            "Make room, or choose another folder; what arrived is kept, and the same command goes on from there.",
        )
    return UnwritableError(
        f"{path} cannot be written ({error.strerror}).", "Expected a folder that may be written to.",
        "Check the folder, or choose another.",
    )


def is_same(path: Path, file: HubFile, advance: Advance) -> bool:
    """Whether a file on this disk is the one that the hub names.

    Raises:
        DownloadError: the hub names no hash.
    """
    if size_of(path) != file.size:
        return False
    if SHA256.fullmatch(file.digest):
        digest = hashlib.sha256()
    elif GIT_SHA1.fullmatch(file.digest):  # how git names small files: with a header before the bytes
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    else:
        raise DownloadError(
            f"Nothing says which hash {file.name} of {file.repository} has.", "Expected one to check the file against.",
            "Unset HF_HUB_OFFLINE, so that the hub can be asked.",
        )
    done = 0
    with open(path, "rb", buffering=0) as source:
        while block := source.read(BLOCK):
            digest.update(block)
            done += len(block)
            advance(done, file.size)
    return digest.hexdigest() == file.digest


def check(part: Path, file: HubFile, advance: Advance) -> None:
    """WrongHashError, and the download is gone, if it is not the file on the hub."""
    if not is_same(part, file, advance):
        part.unlink()
        raise WrongHashError(
            f"{file.name} arrived with another hash than the {file.digest[:12]}... that the hub names.",
            "Expected the very file of the hub; the other was removed.",
            "Download it again, over another connection if need be.",
        )


def settle(part: Path, target: Path) -> None:
    """Gives a whole file its name, once the disk has it: a power cut must not leave the name without the bytes."""
    try:
        with open(part, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise unwritable(target, error) from error


def copy_of_cached(file: HubFile, part: Path) -> None:
    """The file of the cache under the name of a download: the same bytes on the same disk, else a copy."""
    part.unlink(missing_ok=True)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        source = file.cached.resolve()
        try:
            os.link(source, part)
        except OSError:  # another disk, or one that has no links
            shutil.copyfile(source, part)
    except OSError as error:
        raise unwritable(part, error) from error
