"""Text that users wrote, with whatever program."""

import codecs
from pathlib import Path

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """UTF-8, or UTF-16 where its byte order mark says so; without the mark.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else; with the line, and what to do.
    """
    with open(path, "rb") as file:
        start = file.read(2)
    try:
        return path.read_text(encoding="utf-16" if start in _UTF16_MARKS else "utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.decode(error.encoding).count("\n") + 1
        raise ValueError(f"byte {error.object[error.start]:#04x} in line {line} is not {error.encoding.upper()}") from error
