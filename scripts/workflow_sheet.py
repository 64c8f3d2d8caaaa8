"""A workflow as nodes in titled groups, written in ComfyUI's two formats: with its layout (UI) and bare (API)."""

import math
import uuid
from dataclasses import dataclass, field
from typing import Any

from released_files import model_links
from workflow_about import About

TITLE_HEIGHT = 30  # of a node, drawn above its position
GROUP_TITLE_HEIGHT = 40
MARGIN = 20  # between a group's frame and its nodes
NODE_GAP = 44  # between nodes; the newer way to draw them ("Nodes 2.0") makes them up to 40 taller
GAP = 40  # between groups
SLOT_HEIGHT, WIDGET_HEIGHT = 20, 24
GROUP_COLOR, OTHER_GROUP_COLOR = "#3f789e", "#a1309b"
NOTE_COLORS = {"color": "#432", "bgcolor": "#653"}
CONTROL = "randomize"  # the value of the widget that ComfyUI's page adds behind a seed


@dataclass(frozen=True)
class Output:
    node: "Node"
    index: int


@dataclass
class Node:
    """A node of the sheet.

    Attributes:
        schema: its entry of /object_info; None for a note, which only the page knows.
        inputs: input name to a widget's value or an `Output`.
    """

    number: int
    class_type: str
    title: str
    schema: dict[str, Any] | None
    inputs: dict[str, Any]
    height: int
    box: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __getitem__(self, name: str) -> Output:
        return Output(self, self.schema["output_name"].index(name))

    def specs(self) -> dict[str, tuple[Any, dict[str, Any]]]:
        """(type, options) of every input, in the schema's order."""
        sections = self.schema["input"]
        found = {**sections.get("required", {}), **sections.get("optional", {})}
        return {name: (spec[0], spec[1] if len(spec) > 1 else {}) for name, spec in found.items()}

    def widgets(self) -> dict[str, Any]:
        """Widget names and values; where a link gives the value, the schema's default."""
        values = {name: self.inputs.get(name) for name, (kind, _) in self.specs().items() if is_widget(kind)}
        return {
            name: self.specs()[name][1].get("default") if isinstance(value, Output) or value is None else value
            for name, value in values.items()
        }


def is_widget(kind: Any) -> bool:
    """Whether an input of this type is a widget on the node; the older form of a combo is the list of its options."""
    return isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


@dataclass
class Sheet:
    """Collects nodes, each after the ones it is connected to, and places them in columns from left to right.

    Args:
        schemas: ComfyUI's /object_info.
        about: what it is.
    """

    schemas: dict[str, Any]
    about: About
    nodes: list[Node] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    right: int = 0

    def node(self, class_type: str, *, title: str = "", height: int = 0, **inputs: Any) -> Node:
        """Adds a node; `height` in pixels makes room for a text or a preview beyond slots and widgets.

        Raises:
            ValueError: ComfyUI knows no such input.
        """
        schema = self.schemas[class_type]
        node = Node(len(self.nodes) + 1, class_type, title or schema["display_name"], schema, inputs, height)
        if unknown := inputs.keys() - node.specs():
            raise ValueError(f"{class_type} has no input {', '.join(sorted(unknown))}.")
        node.height = max(height, _least_height(node))
        self.nodes.append(node)
        return node

    def note(self, title: str, text: str, height: int) -> Node:
        node = Node(len(self.nodes) + 1, "MarkdownNote", title, None, {"": text}, height)
        self.nodes.append(node)
        return node

    def column(self, width: int, *stacks: tuple[str, list[Node]], top: int = 0) -> None:
        """Places groups below each other, right of what is there; each is its title and its nodes from top to bottom.

        An untitled stack has no frame: for notes.
        """
        left = self.right + (GAP if self.right else 0)
        for title, nodes in stacks:
            inner = top + (GROUP_TITLE_HEIGHT if title else 0)
            for node in nodes:
                node.box = (left + MARGIN, inner + TITLE_HEIGHT, width - 2 * MARGIN, node.height)
                inner += TITLE_HEIGHT + node.height + NODE_GAP
            inner += MARGIN - NODE_GAP
            if title:
                color = OTHER_GROUP_COLOR if title.startswith("Your") else GROUP_COLOR
                self.groups.append({
                    "id": len(self.groups) + 1, "title": title, "bounding": [left, top, width, inner - top],
                    "color": color, "font_size": 24, "flags": {},
                })
            top = inner + GAP
        self.right = left + width

    def ui(self, name: str) -> dict[str, Any]:
        """What ComfyUI's page saves and loads."""
        links = _links(self.nodes)
        return {
            "id": _identifier(name), "revision": 0, "last_node_id": len(self.nodes), "last_link_id": len(links),
            "nodes": [_ui_node(node, order, links) for order, node in enumerate(self.nodes)],
            "links": links, "groups": self.groups, "config": {}, "extra": self.about.extra(), "version": 0.4,
        }

    def api(self) -> dict[str, Any]:
        """What /prompt takes."""
        return {
            str(node.number): {
                "class_type": node.class_type,
                "inputs": {**node.widgets(), **_references(node)},
                "_meta": {"title": node.title},
            }
            for node in self.nodes if node.schema
        }


def _least_height(node: Node) -> int:
    sockets = sum(not is_widget(kind) for kind, _ in node.specs().values())
    rows = max(sockets, len(node.schema["output"]))
    controls = sum(bool(options.get("control_after_generate")) for _, options in node.specs().values())
    return math.ceil(SLOT_HEIGHT * rows + WIDGET_HEIGHT * (len(node.widgets()) + controls) + 14)


def _references(node: Node) -> dict[str, list]:
    return {
        name: [str(value.node.number), value.index] for name, value in node.inputs.items() if isinstance(value, Output)
    }


def _sockets(node: Node) -> list[tuple[str, str, bool]]:
    """(name, type, is a widget) of every input the page draws a dot for: plain ones first, as it does."""
    kinds = {name: kind for name, (kind, _) in node.specs().items()}
    found = [(name, "COMBO" if isinstance(kind, list) else kind, is_widget(kind)) for name, kind in kinds.items()]
    return sorted(found, key=lambda socket: socket[2])


def _links(nodes: list[Node]) -> list[list]:
    """[number, from node, from output, to node, to input, type] for every connection."""
    ends = [
        (value, node.number, index, kind)
        for node in nodes if node.schema
        for index, (name, kind, _) in enumerate(_sockets(node))
        if isinstance(value := node.inputs.get(name), Output)
    ]
    return [
        [number, source.node.number, source.index, target, index, source.node.schema["output"][source.index]]
        for number, (source, target, index, _) in enumerate(ends, 1)
    ]


def _ui_node(node: Node, order: int, links: list[list]) -> dict[str, Any]:
    left, top, width, height = node.box
    common = {
        "id": node.number, "type": node.class_type, "pos": [left, top], "size": [width, height],
        "flags": {}, "order": order, "mode": 0,
    }
    if node.schema is None:
        bare = {"inputs": [], "outputs": [], "properties": {}}
        return {**common, **bare, "title": node.title, "widgets_values": list(node.inputs.values()), **NOTE_COLORS}
    title = {} if node.title == node.schema["display_name"] else {"title": node.title}
    links_to_models = {"models": models} if (models := model_links(node.class_type)) else {}
    return {
        **common, **title,
        "inputs": [
            {
                "name": name, "type": kind, **({"widget": {"name": name}} if widget else {}),
                "link": next((link[0] for link in links if link[3:5] == [node.number, index]), None),
            }
            for index, (name, kind, widget) in enumerate(_sockets(node))
        ],
        "outputs": [
            {"name": name, "type": kind, "links": [link[0] for link in links if link[1:3] == [node.number, index]]}
            for index, (name, kind) in enumerate(zip(node.schema["output_name"], node.schema["output"]))
        ],
        "properties": {"Node name for S&R": node.class_type, **links_to_models},
        "widgets_values": _widget_values(node),
    }


def _widget_values(node: Node) -> list:
    specs, values = node.specs(), []
    for name, value in node.widgets().items():
        values += [value, CONTROL] if specs[name][1].get("control_after_generate") else [value]
    return values


def _identifier(name: str) -> str:
    """The same for the same workflow, so that making it again changes nothing."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"hunyuan-foley/{name}"))
