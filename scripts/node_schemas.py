"""What the pack's nodes declare, in a form of our own: inputs with ranges and defaults, outputs, names, tooltips."""

import asyncio
import importlib
from dataclasses import dataclass
from typing import Any

import comfy_inside

# A list of more than this, or of files, says nothing on a page.
LISTED = 8
FILE_ENDINGS = (".safetensors", ".json")


@dataclass(frozen=True)
class Input:
    """An input as ComfyUI's page gets it.

    Attributes:
        options: of the widget, such as `default`, `min`, `max`, `options`; without the tooltip.
    """

    name: str
    type: str
    tooltip: str
    optional: bool
    options: dict[str, Any]

    @property
    def default(self) -> Any:
        """None: there is none, or it depends on the files that are there."""
        return None if self.offers_files else self.options.get("default")

    @property
    def offers_files(self) -> bool:
        return any(ending in str(option) for option in self.options.get("options", ()) for ending in FILE_ENDINGS)

    @property
    def listed(self) -> list[str]:
        """What a list offers, if it is short and no list of files."""
        options = self.options.get("options", [])
        return [] if self.offers_files or len(options) > LISTED else options

    @property
    def is_widget(self) -> bool:
        return self.type in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass(frozen=True)
class Output:
    name: str
    type: str
    tooltip: str


@dataclass(frozen=True)
class Node:
    id: str
    display_name: str
    description: str
    category: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


def nodes() -> list[Node]:
    """Those of the pack, within `comfy_inside.imported`."""
    return [_node(described) for described in described_nodes().values()]


def described_nodes() -> dict[str, dict[str, Any]]:
    """The same as /object_info has them."""
    pack = importlib.import_module(comfy_inside.PACK)

    async def listed():
        return await (await pack.comfy_entrypoint()).get_node_list()

    return {node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in asyncio.run(listed())}


def _node(described: dict[str, Any]) -> Node:
    return Node(
        described["name"], described["display_name"], described["description"], described["category"],
        tuple(
            _input(name, *declared, optional=kind == "optional")
            for kind in ("required", "optional") for name, declared in described["input"].get(kind, {}).items()
        ),
        tuple(
            Output(name, kind, tooltip or "")
            for name, kind, tooltip in zip(described["output_name"], described["output"], described["output_tooltips"])
        ),
    )


def _input(name: str, kind: Any, settings: dict[str, Any] | None = None, *, optional: bool) -> Input:
    options = dict(settings or {})
    if isinstance(kind, list):  # how lists were declared before
        kind, options["options"] = "COMBO", kind
    return Input(name, kind, options.pop("tooltip", None) or "", optional, options)
