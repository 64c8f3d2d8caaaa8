"""The errors a user can meet and act on.

Every one of them says three things in one paragraph: what came, what was expected, what to do.
Anything else that escapes this package is a defect of ours, not the user's.
"""


class FoleyError(ValueError):
    """Base of all errors meant for the person at the keyboard.

    Args:
        found: what came, with names and numbers.
        expected: what would have been right.
        remedy: what to do now.
    """

    def __init__(self, found: str, expected: str = "", remedy: str = ""):
        self.found, self.expected, self.remedy = found, expected, remedy
        super().__init__(" ".join(part for part in (found, expected, remedy) if part))


class CheckpointError(FoleyError):
    """A weight or tokenizer file is missing, damaged, unsafe, or holds something else."""


class MediaError(FoleyError):
    """A video or sound file cannot be read, holds no usable stream, or cannot be written."""


class InputError(FoleyError):
    """A value or tensor handed to a function does not fit the others or its range."""
