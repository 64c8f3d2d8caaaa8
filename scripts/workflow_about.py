"""What a workflow is called and is for. ComfyUI shows packs' templates by their file names only, so the file carries the rest.

The names of the fields are those of ComfyUI's own list of templates.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class About:
    """Kept in a workflow's `extra`.

    Attributes:
        title: also over the first note.
        description: one sentence: what goes in, what comes out.
        tags: words of the field to search by.
    """

    title: str
    description: str
    tags: tuple[str, ...]

    def extra(self) -> dict[str, Any]:
        return {"title": self.title, "description": self.description, "tags": list(self.tags)}


def about(title: str, description: str, *tags: str) -> Callable[[Callable], Callable]:
    """Marks a function that lays out a sheet with its `about`."""
    def mark(graph: Callable) -> Callable:
        graph.about = About(title, description, tags)
        return graph

    return mark
