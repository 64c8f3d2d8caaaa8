"""Many files in one go: what is done is left alone, what fails does not stop the rest, and a kill loses one file at most.

A log beside the results says from what each was made. A result counts as done when it is there and the log has it with
the same digest of everything that it depends on; each is written under another name first, as the log is.
"""

import errno
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import FoleyError, InputError
from .media.output import replacing
from .whole_files import alone, leftovers

LOG_NAME, LOCK_NAME = "foley_batch.json", ".foley_batch.lock"
_VERSION = 1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One file to make.

    Attributes:
        name: what messages call it.
        outputs: the files that it makes.
        digest: of everything that they depend on (`digest_of`).
        task: what `make` needs to know.
    """

    name: str
    outputs: tuple[Path, ...]
    digest: str
    task: Any = None


@dataclass
class BatchReport:
    """Names of jobs by how they went; `failed` with the message of each."""

    made: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def digest_of(settings: dict[str, Any], files: Sequence[Path]) -> str:
    """Changes when a setting does, or the name, size or time of a file."""
    marks = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    text = json.dumps([_VERSION, settings, marks], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def run_batch(
    folder: Path, jobs: Sequence[Job], make: Callable[[Job], None], announce: Callable[[int, Job], None]
) -> BatchReport:
    """Makes what is not there yet.

    Args:
        folder: where the log is kept.
        make: makes the outputs of a job, each whole or not at all. What it raises is the failure of that file alone,
            unless no file could be written after it either.
        announce: called as (number from 0, job) before each that is made.

    InputError before anything is made where two jobs would write the same file.
    """
    _check_different(jobs)
    log, report = _Log(folder / LOG_NAME), BatchReport()
    for number, job in enumerate(jobs):
        if log.has(job):
            report.skipped.append(job.name)
            continue
        announce(number, job)
        try:
            log.check_ours(job)
            for left in (left for path in job.outputs for left in leftovers(path)):
                left.unlink()
            make(job)
        except Exception as error:  # of whatever kind: an unforeseen one must not cost the files after it
            if not isinstance(error, FoleyError):
                logger.exception("%s failed", job.name)
            reason = error.reason() if isinstance(error, FoleyError) else str(error)
            report.failed.append((job.name, reason or type(error).__name__))
            if _is_full(error):
                report.failed.append(("all after it", "There is no room left, so nothing more was tried."))
                break
        else:
            log.note(job)
            report.made.append(job.name)
    return report


def _check_different(jobs: Sequence[Job]) -> None:
    makers: dict[Path, str] = {}
    for job in jobs:
        for path in job.outputs:
            if path in makers:
                raise InputError(
                    f"{makers[path]} and {job.name} would both be written to {path}.", "Each needs a file of its own.",
                    "Rename one, or give the names in a column `out` of a CSV.",
                )
            makers[path] = job.name


class _Log:
    """Digests by output, in a file that is whole at any time; several runs may note in it at a time."""

    def __init__(self, path: Path):
        self.path, self.digests = path, {}
        with self._alone():
            self._read()

    def _alone(self):
        return alone(self.path.with_name(LOCK_NAME))

    def _read(self) -> None:
        """Takes over what the file has by now."""
        try:
            self.digests.update(json.loads(self.path.read_text(encoding="utf-8"))["files"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path} cannot be read ({error}).", "It says what was made here, and from what.",
                "Move it away; the files beside it then have to go too, or they stay as they are.",
            ) from error

    def has(self, job: Job) -> bool:
        if not self._knows(job):
            with self._alone():
                self._read()
        return self._knows(job)

    def _knows(self, job: Job) -> bool:
        return all(path.is_file() and self.digests.get(self._key(path)) == job.digest for path in job.outputs)

    def check_ours(self, job: Job) -> None:
        """InputError where a file would be overwritten that was not made here."""
        for path in job.outputs:
            if path.exists() and self._key(path) not in self.digests:
                raise InputError(
                    f"{path} is there already and was not made by this command.", "It is not overwritten.",
                    "Move it away, or choose another folder with --out.",
                )

    def note(self, job: Job) -> None:
        with self._alone(), replacing(self.path) as temporary:
            self._read()
            self.digests.update({self._key(path): job.digest for path in job.outputs})
            temporary.write_text(json.dumps({"files": self.digests}, indent=1), encoding="utf-8")

    def _key(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.path.parent)).as_posix()


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error."""
    while error is not None:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False
