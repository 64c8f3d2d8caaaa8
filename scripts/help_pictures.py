"""The small pictures of the help pages: a node as ComfyUI draws it, between the nodes it is usually wired to."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from node_schemas import Input, Node
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

# What an input of a type usually comes from: the title of a node.
SOURCES = {
    "MODEL": "Load Foley Model", "VAE": "Load Foley VAE", "FOLEY_ENCODERS": "Load Foley Encoders",
    "VIDEO": "Load Video", "FOLEY_VIDEO": "Encode Video", "FOLEY_SCENES": "Foley Scenes", "CONDITIONING": "Encode Text",
    "LATENT": "Empty Foley Latent", "AUDIO": "DAC Decode",
}
# Where the same comes from something else, by node and input; None: it is left open.
OTHER_SOURCES = {
    ("FoleyDACDecode", "samples"): "Foley Sampler", ("FoleyDACEncode", "audio"): "Load Audio",
    ("FoleyEncodeVideo", "images"): None,
    ("FoleyRetake", "audio"): "Load Audio", ("FoleyExtend", "audio"): "Load Audio",
    ("FoleyRegionMask", "samples"): "DAC Encode", ("FoleyTimeline", "timed_prompts"): None,
    ("FoleyPickTake", "latent"): None, ("FoleyTrainLoRA", "model"): "Load Foley Model",
    ("FoleyTimeline", "audio"): "DAC Decode",
    **{("FoleyLayerMix", f"layer_{number}"): "Foley Layer" if number < 3 else None for number in range(1, 9)},
}
# What an output usually goes to: title and input, one for each output; None: nothing.
TARGETS = {
    "FoleyDownloadModels": [None],
    "FoleyLoadModel": [("Foley Sampler", "model")],
    "FoleyLoadEncoders": [("Encode Video", "encoders")],
    "FoleyLoadVAE": [("DAC Decode", "vae")],
    "FoleyScenes": [("Encode Video", "scenes"), None],
    "FoleyEncodeVideo": [("Encode Text", "video")],
    "FoleyEncodeText": [("Foley Sampler", "positive"), ("Foley Sampler", "negative")],
    "FoleyTimedPrompts": [("Foley Sampler", "positive"), ("Foley Sampler", "negative")],
    "FoleyEmptyLatent": [("Foley Sampler", "latent")],
    "FoleyGuidanceInterval": [("Foley Sampler", "model")],
    "FoleyContextWindows": [("KSampler", "model")],
    "FoleySampler": [("DAC Decode", "samples")],
    "FoleyLayer": [("Foley Layer Mix", "layer_1")],
    "FoleyLayerMix": [("Mux Audio", "audio"), None],
    "FoleyRetake": [("Mux Audio", "audio")],
    "FoleyExtend": [("Mux Audio", "audio")],
    "FoleySeamlessLoop": [("Mux Audio", "audio")],
    "FoleyRegionMask": [("Foley Sampler", "latent")],
    "FoleyPickTake": [("Mux Audio", "audio"), None],
    "FoleyDACDecode": [("Mux Audio", "audio")],
    "FoleyDACEncode": [("Foley Sampler", "latent")],
    "FoleyMuxAudio": [("Save Video", "video")],
    "FoleyMixdown": [("Save Video", "video"), None],
    "FoleyTimeline": [None],
    "FoleyTrainLoRA": [None, ("Foley Sampler", "model")],
}

SCALE = 1.5  # of the picture to the lengths below, in points
WIDE, NARROW, BETWEEN, EDGE = 236, 132, 34, 10
ROW, TITLE, PADDING, GAP, RADIUS, DOT = 20, 24, 5, 12, 6, 4
TEXT_SIZE, TITLE_SIZE = 11, 12
ROOM = 36  # letters of a widget, name and value together
SMALL_MODEL = "foley_tiny"
COLOURS = 48
BACKGROUND, BODY, HEAD, FIELD = "#1b1b1f", "#38383d", "#2c2c31", "#222226"
INK, FAINT, HEAD_INK = "#d8d8dd", "#9a9aa2", "#f0f0f4"
SOCKETS = {
    "MODEL": "#b39ddb", "VAE": "#ff6e6e", "CONDITIONING": "#ffa931", "LATENT": "#ff9cf9", "IMAGE": "#64b5f6",
    "AUDIO": "#5bc98a", "VIDEO": "#e8c65a", "FOLEY_ENCODERS": "#7fd4d4", "FOLEY_VIDEO": "#9ad45f", "FOLEY_SCENES": "#c9a27a",
}
OTHER_SOCKET = "#9a9a9a"
DRAWN = "drawn"  # the entry of a picture that says what was drawn


@dataclass(frozen=True)
class Link:
    """From a socket of the node, in its row, to a neighbour's socket."""

    row: int
    type: str
    title: str
    socket: str


def write(node: Node, path: Path) -> None:
    """Draws the picture unless it is there and shows the same."""
    if drawn(path) == digest(node):
        return
    entry = PngImagePlugin.PngInfo()
    entry.add_text(DRAWN, digest(node))
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(node).quantize(COLOURS).save(path, pnginfo=entry, optimize=True)


def drawn(path: Path) -> str | None:
    """`digest` of the node as it was when the picture was drawn; None: there is no such picture."""
    if not path.exists():
        return None
    with Image.open(path) as image:
        return image.info.get(DRAWN)


def digest(node: Node) -> str:
    """Changes with whatever the picture shows."""
    sockets = [(socket.name, socket.type) for socket in _sockets(node)]
    shown = (node.display_name, sources(node), targets(node), _widgets(node), sockets)
    return hashlib.sha256(json.dumps(shown, default=vars).encode()).hexdigest()[:16]


def sources(node: Node) -> list[Link]:
    named = [
        (row, socket, OTHER_SOURCES.get((node.id, socket.name), SOURCES.get(socket.type)))
        for row, socket in enumerate(_sockets(node))
    ]
    return [Link(row, socket.type, title, _output_of(socket)) for row, socket, title in named if title]


def targets(node: Node) -> list[Link]:
    named = zip(node.outputs, TARGETS[node.id], strict=True)
    return [Link(row, output.type, *target) for row, (output, target) in enumerate(named) if target]


def draw(node: Node) -> Image.Image:
    rows = max(len(_sockets(node)), len(node.outputs)) + len(_widgets(node))
    left, right = _stacked(sources(node)), _stacked(targets(node))
    middle, beyond = (EDGE + (NARROW + BETWEEN if column else 0) for column in (left, right))
    height = max(TITLE + rows * ROW + 2 * PADDING, *(_bottom(column) for column in (left, right)))
    width = middle + WIDE + beyond
    image = Image.new("RGB", (round(width * SCALE), round((height + 2 * EDGE) * SCALE)), BACKGROUND)
    pen = Pen(ImageDraw.Draw(image))
    for column, x, end in ((left, EDGE, middle), (right, width - EDGE - NARROW, middle + WIDE)):
        for top, links in column:
            _neighbour(pen, x, top, links, end, points_right=x < middle)
    _whole(pen, node, middle)
    return image


class Pen:
    """Draws in points from the picture's upper left corner."""

    def __init__(self, target: ImageDraw.ImageDraw):
        self.target = target
        self.fonts = {size: ImageFont.load_default(size * SCALE) for size in (TEXT_SIZE, TITLE_SIZE)}

    def box(self, x: float, y: float, width: float, height: float, colour: str, corners=(True,) * 4) -> None:
        box = [value * SCALE for value in (x, y, x + width, y + height)]
        self.target.rounded_rectangle(box, RADIUS * SCALE, colour, corners=corners)

    def text(self, x: float, y: float, text: str, colour=INK, anchor="lm", size=TEXT_SIZE) -> None:
        self.target.text((x * SCALE, y * SCALE), text, colour, self.fonts[size], anchor)

    def dot(self, x: float, y: float, kind: str) -> None:
        box = [value * SCALE for value in (x - DOT, y - DOT, x + DOT, y + DOT)]
        self.target.ellipse(box, SOCKETS.get(kind, OTHER_SOCKET))

    def link(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """A curve that leaves and arrives level, as ComfyUI's do."""
        (x, y), (to_x, to_y) = start, end
        steps = [step / 24 for step in range(25)]
        points = [((x + (to_x - x) * s) * SCALE, (y + (to_y - y) * s * s * (3 - 2 * s)) * SCALE) for s in steps]
        self.target.line(points, SOCKETS.get(kind, OTHER_SOCKET), round(2 * SCALE), "curve")


def _whole(pen: Pen, node: Node, x: float) -> None:
    sockets, widgets = _sockets(node), _widgets(node)
    rows = max(len(sockets), len(node.outputs))
    _frame(pen, x, EDGE, WIDE, rows + len(widgets), node.display_name)
    for row, socket in enumerate(sockets):
        pen.dot(x, _row_y(row), socket.type)
        pen.text(x + 10, _row_y(row), socket.name, FAINT if socket.optional else INK)
    for row, output in enumerate(node.outputs):
        pen.dot(x + WIDE, _row_y(row), output.type)
        pen.text(x + WIDE - 10, _row_y(row), output.name, anchor="rm")
    for row, (name, value) in enumerate(widgets, start=rows):
        pen.box(x + 8, _row_y(row) - ROW / 2 + 1, WIDE - 16, ROW - 2, FIELD)
        pen.text(x + 15, _row_y(row), name, FAINT)
        pen.text(x + WIDE - 15, _row_y(row), value, anchor="rm")


def _neighbour(pen: Pen, x: float, top: float, links: list[Link], end: float, points_right: bool) -> None:
    edge = x + NARROW if points_right else x
    for row, link in enumerate(links):
        pen.link((edge, _row_y(row, top)), (end, _row_y(link.row)), link.type)
    _frame(pen, x, top, NARROW, len(links), links[0].title)
    for row, link in enumerate(links):
        pen.dot(edge, _row_y(row, top), link.type)
        inside = edge - 10 if points_right else edge + 10
        pen.text(inside, _row_y(row, top), link.socket, anchor="rm" if points_right else "lm")


def _frame(pen: Pen, x: float, top: float, width: float, rows: int, title: str) -> None:
    pen.box(x, top, width, TITLE + rows * ROW + 2 * PADDING, BODY)
    pen.box(x, top, width, TITLE, HEAD, (True, True, False, False))
    pen.text(x + 9, top + TITLE / 2, title, HEAD_INK, size=TITLE_SIZE)


def _stacked(links: list[Link]) -> list[tuple[float, list[Link]]]:
    """Top and links of each neighbour, one below the other."""
    by_title: dict[str, list[Link]] = {}
    for link in links:
        # Each layer is a node of its own.
        key = f"{link.title} {link.row}" if link.title == "Foley Layer" else link.title
        by_title.setdefault(key, []).append(link)
    stack, top = [], EDGE
    for group in by_title.values():
        stack.append((top, group))
        top += TITLE + len(group) * ROW + 2 * PADDING + GAP
    return stack


def _bottom(column: list[tuple[float, list[Link]]]) -> float:
    return max((top - EDGE + TITLE + len(links) * ROW + 2 * PADDING for top, links in column), default=0)


def _row_y(row: int, top: float = EDGE) -> float:
    return top + TITLE + PADDING + (row + 0.5) * ROW


def _sockets(node: Node) -> list[Input]:
    return [input for input in node.inputs if not input.is_widget]


def _widgets(node: Node) -> list[tuple[str, str]]:
    return [(input.name, _shown(input)) for input in node.inputs if input.is_widget]


def _shown(input: Input) -> str:
    """The value of a fresh node; of a list of files the same wherever the picture is drawn, that of the small model."""
    options = input.options.get("options", [""])
    value = input.options.get("default", options[0])
    if input.offers_files:
        value = next((name for name in options if name.startswith(SMALL_MODEL)), options[-1])
    if isinstance(value, bool):
        return "on" if value else "off"
    text = f"{value:.10g}" if isinstance(value, float) else str(value).partition("\n")[0]
    room = ROOM - len(input.name)
    return text if len(text) <= room else f"{text[: room - 3]}..."


def _output_of(socket: Input) -> str:
    """The name of the output that such an input comes from."""
    if socket.type == "AUDIO" and socket.name.startswith("layer"):
        return "stem"
    named = {"FOLEY_ENCODERS": "encoders", "FOLEY_VIDEO": "video", "FOLEY_SCENES": "scenes"}
    return socket.name if socket.type == "CONDITIONING" else named.get(socket.type, socket.type)
