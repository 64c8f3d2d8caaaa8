"""Writes what follows from the nodes' schemas: locales/, and title, description, picture and tables of each help page.

Run it when a node has been added or a name, tooltip, range or default has changed; it lists what is then left to write.

    python scripts/help_pages.py COMFYUI          (in a Python with ComfyUI's packages)

A page in web/docs/ has two parts of its own, which stay: the text under the picture, and the common mistakes.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy_inside
import help_pictures
import node_locales
import node_schemas
from node_locales import ENGLISH, LANGUAGES, Catalogue
from node_schemas import Input, Node, Output

PAGES = node_locales.ROOT / "web" / "docs"
INPUTS, OUTPUTS, MISTAKES = "Inputs", "Outputs", "Common mistakes"
BREAK = "<br>"
LARGEST_SEED = 2**64 - 1


def main(comfyui: Path) -> int:
    with tempfile.TemporaryDirectory() as base, comfy_inside.imported(comfyui, Path(base)):
        nodes = node_schemas.nodes()
    for path, text in (*node_locales.files(nodes), *pages(nodes)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    for node in nodes:
        help_pictures.write(node, picture_path(node))
    missing = list(unwritten(nodes))
    sys.stdout.writelines(f"{line}\n" for line in missing)
    return 1 if missing else 0


def page_path(node: Node, language: str) -> Path:
    return PAGES / f"{node.id}.md" if language == ENGLISH else PAGES / node.id / f"{language}.md"


def picture_path(node: Node) -> Path:
    return PAGES / node.id / "wired.png"


def pages(nodes: list[Node]) -> Iterator[tuple[Path, str]]:
    """Every page with what is to be in it: its own parts as they are, the rest from the schema."""
    for language in (ENGLISH, *LANGUAGES):
        known = node_locales.catalogue(language)
        for node in nodes:
            path = page_path(node, language)
            yield path, page(node, known, *own_parts(path, known))


def unwritten(nodes: list[Node]) -> Iterator[str]:
    """What a person has to write: translations, and a page's own parts."""
    for language in (ENGLISH, *LANGUAGES):
        known = node_locales.catalogue(language)
        if language != ENGLISH:
            yield from (f"{language}: no translation of: {text}" for text in node_locales.untranslated(nodes, known))
        for node in nodes:
            path = page_path(node, language)
            if not all(own_parts(path, known)):
                yield f"{path}: the text under the picture and the common mistakes are to be written"


def own_parts(path: Path, known: Catalogue) -> tuple[str, str]:
    """What a person wrote of a page: under the picture, and the common mistakes. Empty where there is nothing yet."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    _, _, below = text.partition("/wired.png)\n")
    about, *_ = below.partition("\n## ")
    _, _, mistakes = text.partition(f"\n## {known.word(MISTAKES)}\n")
    return about.strip(), mistakes.strip()


def page(node: Node, known: Catalogue, about: str, mistakes: str) -> str:
    title = known.text(node.display_name)
    parts = [
        f"# {title}", known.text(node.description), f"![{title}]({node.id}/wired.png)", about,
        *_section(INPUTS, "Input", [_input_row(part, known) for part in node.inputs], known),
        *_section(OUTPUTS, "Output", [_output_row(part, known) for part in node.outputs], known),
        f"## {known.word(MISTAKES)}", mistakes,
    ]
    return "\n\n".join(parts).rstrip() + "\n"


def _section(title: str, first_column: str, rows: list[tuple[str, str]], known: Catalogue) -> list[str]:
    """A table of two columns: the page shows it in a sidebar, where more would have to be scrolled."""
    if not rows:
        return []
    lines = [(known.word(first_column), known.word("What it is")), ("---", "---"), *rows]
    return [f"## {known.word(title)}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]


def _input_row(input: Input, known: Catalogue) -> tuple[str, str]:
    takes, default = _values(input, known), _default(input, known)
    if input.optional and not input.is_widget:
        takes = f"{takes} ({known.word('optional')})"
    if default:
        takes = known.word("{}; default {}").format(takes, default)
    return _named(input.name, known), f"{takes}{BREAK}{_cell(known.text(input.tooltip))}"


def _output_row(output: Output, known: Catalogue) -> tuple[str, str]:
    return _named(output.name, known), f"`{output.type}`{BREAK}{_cell(known.text(output.tooltip))}"


def _named(name: str, known: Catalogue) -> str:
    """The id, and the name on the node if that is another."""
    translated = known.name(name)
    return f"`{name}`" if translated in (name, "") else f"{translated}{BREAK}`{name}`"


def _values(input: Input, known: Catalogue) -> str:
    if "min" in input.options:
        return _cell(known.word("{} to {}").format(number(input.options["min"]), number(input.options["max"])))
    if input.listed:
        return ", ".join(f"`{option}`" for option in input.listed)
    if input.offers_files:
        return known.word("a file")
    words = {"STRING": "text", "BOOLEAN": "on or off", "COMBO": "a list"}
    return known.word(words[input.type]) if input.type in words else f"`{input.type}`"


def _default(input: Input, known: Catalogue) -> str:
    value = input.default
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return known.word("on" if value else "off")
    if isinstance(value, str):
        return " / ".join(f"`{line}`" for line in value.splitlines())
    return number(value)


def number(value: Any) -> str:
    return "2^64 - 1" if value == LARGEST_SEED else str(value) if isinstance(value, int) else f"{value:.10g}"


def _cell(text: str) -> str:
    """Plain text as Markdown in a table: what lies between two `~` would be struck out."""
    for letter in "|~*":
        text = text.replace(letter, f"\\{letter}")
    return text.replace("\n", " ")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
