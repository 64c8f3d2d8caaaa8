"""`generate` for many files: a folder of videos, or a CSV that says what each is to get."""

import argparse
import copy
import csv
import io
import os
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NoReturn

from . import cli_generate, cli_media, cli_settings, cli_windows, media
from .batch import BatchReport, Job, digest_of, run_batch
from .errors import FoleyError, InputError, UnfinishedError
from .pipeline import Loader
from .places import files_below
from .text_files import read_text

VIDEOS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg"}
FILE, OUT = "file", "out"  # columns beside those named like options
NAMELESS = ""  # a column that a separator at the end of the first line makes
_YES, _NO = {"yes", "true", "1", "x"}, {"no", "false", "0"}
# What does not change the sound, or is the same for all files.
_NOT_DIGESTED = {"command", "out", "folder", "csv", "video", "device"}


def add_generate(command: argparse.ArgumentParser) -> None:
    cli_generate.add_generate(command)
    many = command.add_mutually_exclusive_group()
    many.add_argument(
        "--folder", type=Path, help="make sound for all videos in this folder and those in it; --out is a folder; a .txt "
        "beside a video holds its prompt, others get --prompt. What is done is skipped, also after a kill.",
    )
    many.add_argument(
        "--csv", type=Path, metavar="FILE", help="the same for the files in this table: a column `file`, and any of "
        "`prompt`, `out` and the options above by their names",
    )


def run_generate(args: argparse.Namespace):
    return cli_generate.run_generate(args) if args.folder is None and args.csv is None else run_many(args)


def run_many(args: argparse.Namespace) -> Path:
    if args.video is not None:
        raise InputError("Both a --video and many files were given.", "Expected one of the two.", "Leave out --video.")
    rows = list(_folder_rows(args) if args.folder is not None else _csv_rows(args))
    cli_settings.make_folder(args.out)
    files = cli_settings.files_of(args)
    weights = [path for path in vars(files).values() if path is not None]
    jobs, unfit = _jobs(rows, weights)
    with cli_settings.progress_line() as progress:
        # All networks stay in memory: files come out one by one, so a kill costs one at most, where going through the
        # folder network by network would have nothing to show until the last.
        loader = Loader(files, cli_settings.settings_of(args), keep=True)

        def make(job: Job) -> None:
            for path in job.outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
            cli_generate.check_sounds(job.task)
            _, warnings = cli_generate.make_sounds(job.task, files, progress, loader)
            progress.close()
            cli_settings.warn([f"{job.name}: {warning}" for warning in warnings])

        def announce(number: int, job: Job) -> None:
            progress.close()
            sys.stderr.write(f"[{number + 1}/{len(jobs)}] {job.name}\n")

        try:
            report = run_batch(args.out, jobs, make, announce)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("Stopped; what is done stays, and the same command goes on from there.") from None
    return _told(report, unfit, args.out)


def _told(report: BatchReport, unfit: list[tuple[str, str]], out: Path) -> Path:
    failed = unfit + report.failed
    cli_settings.warn([f"{len(report.made)} made, {len(report.skipped)} were there, {len(failed)} failed."])
    if failed:
        listed = "\n".join(f"  {name}: {message}" for name, message in failed)
        raise UnfinishedError(f"These could not be made; all others are in {out}:\n{listed}")
    return out


# ---- rows: a name, and the arguments that hold for it or the error that is in the way


Row = tuple[str, argparse.Namespace | FoleyError]


def _folder_rows(args: argparse.Namespace) -> Iterator[Row]:
    if not args.folder.is_dir():
        raise InputError(f"There is no folder {args.folder}.", "Expected one with videos.", "Check the name.")
    if args.out.resolve() == args.folder.resolve():
        raise InputError(
            f"The results were to go to {args.out}, where the videos are.", "Expected another folder.", "Change --out."
        )
    videos = [path for path in files_below(args.folder) if path.suffix.lower() in VIDEOS and not path.name.startswith(".")]
    videos = [path for path in videos if args.out.resolve() not in path.resolve().parents]
    if not videos:
        raise InputError(f"{args.folder} holds no video.", f"Known are {', '.join(sorted(VIDEOS))}.", "Check the folder.")
    for video in videos:
        row, caption = copy.copy(args), video.with_suffix(".txt")
        row.video, name = video, video.relative_to(args.folder).as_posix()
        try:
            if caption.is_file():
                row.prompt = _text(caption, "text").strip()
        except InputError as error:
            yield name, error
        else:
            yield _with_output(name, row, Path(name), None)


def _csv_rows(args: argparse.Namespace) -> Iterator[Row]:
    options = _RowParser()
    for number, cells in enumerate(_table(args.csv, options), 2):
        name = f"{cells[FILE]} (row {number})"
        try:
            _check_columns(cells.pop(NAMELESS))
            row = options.read(cells, args)
            row.video = args.csv.parent / cells[FILE]
            yield _with_output(name, row, _place(cells[FILE]), cells.get(OUT))
        except FoleyError as error:
            yield name, error


def _place(file: str) -> Path:
    """Where the result of a file lies in the folder of the results: as the file beside the table, but never above it."""
    path = Path(os.path.normpath(file))
    return Path(path.name) if path.is_absolute() else Path(*(part for part in path.parts if part != os.pardir))


def _check_inside(out: Path, folder: Path) -> None:
    if Path(os.path.abspath(folder)) not in Path(os.path.abspath(out)).parents:
        raise InputError(
            f"The result was to go to {out}.", f"Expected a place in {folder}, the folder of all results.",
            f"Correct the cell of the column `{OUT}`, or change --out.",
        )


def _table(path: Path, options: "_RowParser") -> list[dict[str, str]]:
    """The rows of a CSV by column; separated by commas or semicolons, as spreadsheets write either."""
    text = _text(path, "a CSV file")
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns = [column.strip() for column in next(lines, ())]
    unknown = [column for column in columns if column not in (FILE, OUT, NAMELESS) and options.option(column) is None]
    if FILE not in columns or unknown:
        what = f"an unknown column `{unknown[0]}`" if unknown else f"no column `{FILE}`"
        raise InputError(f"{path.name} has {what}.", f"Known are {FILE}, {OUT}, {', '.join(options.names())}.", "Rename it.")
    rows = [_cells(columns, line) for line in lines]
    rows = [row for row in rows if any(row.values())]
    if not rows or not all(row[FILE] for row in rows):
        raise InputError(f"{path.name} has {'a row without a file' if rows else 'no rows'}.", f"Each names its `{FILE}`.")
    return rows


def _text(path: Path, what: str) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}).", f"Expected {what}.", "Check its name.") from error
    except ValueError as error:
        raise InputError(f"{path} cannot be read ({error}).", f"Expected {what} in UTF-8.", "Save it as such.") from error


def _cells(columns: list[str], line: list[str]) -> dict[str, str]:
    """The cells of a line by column; those of no column, or of one without a name, together."""
    row = {NAMELESS: ""}
    for column, cell in zip_longest(columns, line, fillvalue=""):
        row[column] = cell.strip() if column else " ".join([row[NAMELESS], cell]).strip()
    return row


def _check_columns(nameless: str) -> None:
    if nameless:
        raise InputError(
            f"`{nameless}` stands in no column.", "A cell that holds the table's separator has to be in quotes.",
            'Put the prompt in quotes, such as "a gate squeaks, birds".',
        )


class _RowParser(argparse.ArgumentParser):
    """The options of `generate` that may differ from file to file, as columns."""

    def __init__(self):
        super().__init__(add_help=False, allow_abbrev=False)
        cli_settings.add_prompts(self)
        self.add_argument("--seconds", type=float)
        cli_windows.add_windows(self)
        cli_settings.add_sampling(self)
        self.add_argument("--audio-only", action="store_true")
        cli_media.add_mix(self)

    def option(self, column: str) -> argparse.Action | None:
        return self._option_string_actions.get(f"--{column.replace('_', '-')}")

    def names(self) -> list[str]:
        return [name.removeprefix("--") for name in self._option_string_actions]

    def read(self, cells: dict[str, str], base: argparse.Namespace) -> argparse.Namespace:
        """The arguments of a row: those of the command, where the row says nothing else. InputError for a bad value."""
        row = copy.copy(base)
        for column, value in cells.items():
            action = self.option(column) if column not in (FILE, OUT) and value else None
            if action is not None:
                setattr(row, action.dest, self._value(column, action, value))
        return row

    def _value(self, column: str, action: argparse.Action, value: str):
        option = action.option_strings[0]
        if action.nargs == 0:
            if value.lower() not in _YES | _NO:
                self.error(f"column {column}: `{value}` is neither yes nor no")
            return value.lower() in _YES
        words = [option, *value.split()] if isinstance(action.nargs, int) else [f"{option}={value}"]
        return getattr(self.parse_args(words), action.dest)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"A value cannot be used: {message}.", "It is read as on the command line.", "Correct the row.")


def _with_output(name: str, row: argparse.Namespace, place: Path, out: str | None) -> Row:
    """The row with the file to write in the folder of the results, or what is wrong with its video."""
    folder, row.folder, row.csv = row.out, None, None
    try:
        if out:
            row.out = folder / out
            _check_inside(row.out, folder)
        elif row.audio_only:
            row.out = folder / place.with_suffix(".flac")
        else:
            row.out = folder / place.with_suffix(media.suffix_for(row.video, row.codec))
    except FoleyError as error:
        return name, error
    return name, row


def _jobs(rows: list[Row], weights: list[Path]) -> tuple[list[Job], list[tuple[str, str]]]:
    """What can be tried, and what cannot, with the reason."""
    jobs, unfit = [], []
    for name, row in rows:
        if isinstance(row, FoleyError):
            unfit.append((name, row.reason()))
            continue
        settings = {key: value for key, value in vars(row).items() if key not in _NOT_DIGESTED}
        texts = [Path(row.timed)] if row.timed and row.timed.endswith(".txt") else []
        read = [path for path in (row.video, *weights, row.lora, *texts) if path is not None and path.is_file()]
        jobs.append(Job(name, tuple(cli_generate.take_paths(row)), digest_of(settings, read), row))
    return jobs, unfit
