"""Writing files whole or not at all, and one process after the other."""

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_LONGEST_NAME = 255  # bytes, on the file systems in use


@contextmanager
def whole(path: Path, suffix: str | None = None) -> Iterator[Path]:
    """A new path next to `path` to write to; it takes the place of `path` when the block ends well, else it is removed.

    Args:
        suffix: of the new path; None: that of `path`, for writers that know a format by it. Weights have another, or
            ComfyUI would list what a kill left.

    OSError where the system refuses.
    """
    suffix = path.suffix if suffix is None else suffix
    temporary = path.with_name(f"{_start(path, suffix)}{secrets.token_hex(4)}.tmp{suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _start(path: Path, suffix: str) -> str:
    """How temporary names begin, with as much of the name as leaves room for the rest."""
    room = _LONGEST_NAME - len(f"..12345678.tmp{suffix}".encode(errors="ignore"))
    return f".{path.stem.encode(errors='ignore')[:room].decode(errors='ignore')}."


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until nobody else is in a block with the same path, an empty file that stays.

    The system lets go of it when a process ends, however it does. Where there are no locks, as on some file systems of
    networks, nobody waits.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            file = stack.enter_context(open(path, "ab"))
            _lock(file.fileno())
        yield


def _lock(file: int) -> None:
    """Until it is closed. OSError where that cannot be, or on Windows after ten seconds."""
    try:
        import fcntl
    except ImportError:
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_LOCK, 1)
    else:
        fcntl.flock(file, fcntl.LOCK_EX)


def leftovers(path: Path) -> list[Path]:
    """What a kill left of `path` under temporary names with its suffix."""
    begin, end = _start(path, path.suffix), f".tmp{path.suffix}"
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    return [other for other in beside if other.name.startswith(begin) and other.name.endswith(end)]
