"""What is installed, what model files there are, what is missing for which workflow, and the command that mends it.

It has to run where nothing is installed yet: only the standard library is imported, all else when it is there.
"""

from .report import Report, examine
from .text import to_text

__all__ = ["Report", "examine", "to_text"]
