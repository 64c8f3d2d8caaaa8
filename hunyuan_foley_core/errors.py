"""The errors a user can meet and act on, all of them: their titles and names are here, their pages in docs/errors.md.

Each is one paragraph that says what came, what was expected, what to do, and where there is more about errors of its kind.
Anything else that escapes this package is a defect of ours, not the user's.
"""

import re

PAGE = "docs/errors.md"
# What every kind is called, in the app, by `doctor` and on the page. Names of classes never change: links hold them.
TITLES = {
    "FoleyError": "Something is not as it should be",
    "CheckpointError": "A model file cannot be used",
    "MissingFileError": "A model file is missing",
    "DamagedFileError": "A model file is damaged or incomplete",
    "UnsafeFileError": "A model file may hold code",
    "WrongFileError": "A file holds something else",
    "SeveralFilesError": "Several files could be meant",
    "NoRoomError": "The disk is full",
    "MediaError": "A video or sound file cannot be used",
    "NoPictureError": "There is no picture",
    "NoSoundError": "There is no sound",
    "UnwritableError": "The result cannot be written",
    "UnfinishedError": "Some files could not be made",
    "InputError": "A setting does not fit",
    "WrongConnectionError": "Something else is connected",
    "MissingConnectionError": "Something is not connected",
    "MissingPackageError": "A Python package is missing",
    "TrainingError": "Training cannot start or go on",
    "DownloadError": "The download failed",
    "LicenceError": "The licences have not been accepted",
    "NoAccessError": "The hub does not give you the file",
    "NotOnHubError": "The hub does not have the file",
    "UnreachableError": "The hub cannot be reached",
    "WrongHashError": "What arrived is not the file on the hub",
}


class FoleyError(ValueError):
    """Base of all errors meant for the person at the keyboard.

    Args:
        found: what came, with names and numbers.
        expected: what would have been right.
        remedy: what to do now.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = ""):
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(f"{self.title()}. {self.reason()} [{self.link()}]")

    def reason(self) -> str:
        """The message without title and link, for lists of what went wrong."""
        return " ".join(part for part in (self.found, self.expected, self.remedy) if part)

    @classmethod
    def title(cls) -> str:
        return TITLES[cls.__name__]

    @classmethod
    def anchor(cls) -> str:
        """Its stable name, such as `missing-file`: a heading of the page."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__.removesuffix("Error")).lower()

    @classmethod
    def link(cls) -> str:
        """Where there is more about it, within this pack's folder."""
        return f"{PAGE}#{cls.anchor()}"


class CheckpointError(FoleyError):
    """A weight or tokenizer file is missing, damaged, unsafe, or holds something else."""


class MissingFileError(CheckpointError):
    """A model file is not where it was looked for."""


class DamagedFileError(CheckpointError):
    """A model file is cut off, or lacks tensors."""


class UnsafeFileError(CheckpointError):
    """Reading the file would run code that it holds."""


class WrongFileError(CheckpointError):
    """A whole file, of another network."""


class SeveralFilesError(CheckpointError):
    """More files than one could serve, and none was chosen."""


class NoRoomError(CheckpointError):
    """A model file does not fit on the disk."""


class MediaError(FoleyError):
    """A video or sound file cannot be read, holds no usable stream, or cannot be written."""


class NoPictureError(MediaError):
    """A file, or the part of it that is asked for, has no picture."""


class NoSoundError(MediaError):
    """A file has no sound, and sound was asked of it."""


class UnwritableError(MediaError):
    """A result has no place: no folder, no permission, no room."""


class UnfinishedError(FoleyError):
    """Of many files some were made and some were not."""


class InputError(FoleyError):
    """A value or tensor handed to a function does not fit the others or its range."""


class WrongConnectionError(InputError):
    """A socket got an object of the right type from another family of models."""


class MissingConnectionError(InputError):
    """Sockets of which one has to be connected are empty, or too many of them are not."""


class MissingPackageError(FoleyError):
    """What was asked for needs a Python package that is not installed."""


class DownloadError(FoleyError):
    """Files could not be downloaded."""


class LicenceError(DownloadError):
    """Nothing is downloaded before its licence has been accepted."""


class NoAccessError(DownloadError):
    """The hub asks for a token, or for its terms to be accepted."""


class NotOnHubError(DownloadError):
    """The repository, or a file in it, is not there."""


class UnreachableError(DownloadError):
    """No connection, or one that drops again and again, or none allowed."""


class WrongHashError(DownloadError):
    """What arrived does not have the hash that the hub names."""
