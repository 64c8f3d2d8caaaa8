"""The translations of the nodes as ComfyUI's page reads them: locales/<language>/nodeDefs.json and main.json.

English stands in the schemas of the nodes. scripts/translations/<language>.json holds, for each English text, its
translation; so a text that several nodes share is translated once, and one that has changed is missing.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node_schemas import Node

ROOT = Path(__file__).resolve().parent.parent
LOCALES = ROOT / "locales"
TRANSLATIONS = ROOT / "scripts" / "translations"
ENGLISH = "en"
LANGUAGES = ("zh", "ja", "ko")


@dataclass(frozen=True)
class Catalogue:
    """One language.

    Attributes:
        names: translations by the id of an input, the name of an output, a category or a type of socket.
        texts: translations by English text: display names, descriptions, tooltips.
        page: headings and words of the help pages by their English.
    """

    language: str
    names: dict[str, str]
    texts: dict[str, str]
    page: dict[str, str]

    def name(self, name: str) -> str:
        """An unknown one as it is."""
        return self.known_name(name) or name

    def known_name(self, name: str) -> str | None:
        """Of `gain_3` the translation of `gain` and the number."""
        stem, _, number = name.rpartition("_")
        numbered = f"{self.names[stem]} {number}" if number.isdecimal() and stem in self.names else None
        return self.names.get(name) or numbered

    def text(self, english: str) -> str:
        """An unknown one as it is."""
        return self.known_text(english) or english

    def known_text(self, english: str) -> str | None:
        """Of a text about layer 3 the translation of that about layer 1."""
        _, layer, rest = english.partition("layer ")
        number = rest[:1]
        about_one = english.replace(f"{layer}{number}", f"{layer}1", 1) if layer and number.isdecimal() else english
        found = self.texts.get(about_one)
        return found.replace("1", number, 1) if found and about_one != english else found

    def word(self, english: str) -> str:
        return self.page.get(english, english)


def catalogue(language: str) -> Catalogue:
    """Empty for English."""
    if language == ENGLISH:
        return Catalogue(language, {}, {}, {})
    return Catalogue(language, **json.loads((TRANSLATIONS / f"{language}.json").read_text(encoding="utf-8")))


def files(nodes: Iterable[Node]) -> Iterator[tuple[Path, str]]:
    """Every file under locales/ with what is to be in it."""
    nodes = list(nodes)
    for language in (ENGLISH, *LANGUAGES):
        known = catalogue(language)
        yield LOCALES / language / "nodeDefs.json", _json({node.id: node_definition(node, known) for node in nodes})
        yield LOCALES / language / "main.json", _json(_main(nodes, known.name))


def untranslated(nodes: Iterable[Node], known: Catalogue) -> list[str]:
    """English texts and names that the catalogue lacks."""
    texts, names = _english(nodes)
    return sorted(text for text in texts if not known.known_text(text)) + sorted(
        name for name in names if not known.known_name(name)
    )


def superfluous(nodes: Iterable[Node], known: Catalogue) -> list[str]:
    """What the catalogue translates and no node has any more."""
    texts, names = _english(nodes)
    names |= {name.rpartition("_")[0] for name in names}
    return [text for text in known.texts if text not in texts] + [name for name in known.names if name not in names]


def _english(nodes: Iterable[Node]) -> tuple[set[str], set[str]]:
    nodes = list(nodes)
    texts = {text for node in nodes for text in (node.display_name, node.description)}
    names = {part for node in nodes for part in node.category.split("/")}
    for node in nodes:
        texts.update(part.tooltip for part in (*node.inputs, *node.outputs) if part.tooltip)
        names.update(part.name for part in (*node.inputs, *node.outputs))
    return texts, names | set(_socket_types(nodes))


def node_definition(node: Node, known: Catalogue) -> dict[str, Any]:
    def part(name: str, tooltip: str) -> dict[str, str]:
        return {"name": known.name(name), **({"tooltip": known.text(tooltip)} if tooltip else {})}

    return {
        "display_name": known.text(node.display_name),
        "description": known.text(node.description),
        # ComfyUI's page looks for a dot in a name as for an underscore.
        "inputs": {input.name.replace(".", "_"): part(input.name, input.tooltip) for input in node.inputs},
        "outputs": {str(index): part(output.name, output.tooltip) for index, output in enumerate(node.outputs)},
    }


def _main(nodes: list[Node], translate: Callable[[str], str]) -> dict[str, Any]:
    categories = {part for node in nodes for part in node.category.split("/")}
    return {
        "nodeCategories": {name: translate(name) for name in sorted(categories)},
        "dataTypes": {name: translate(name) for name in _socket_types(nodes)},
    }


def _socket_types(nodes: Iterable[Node]) -> list[str]:
    """Those of this pack; ComfyUI translates its own."""
    types = {part.type for node in nodes for part in (*node.inputs, *node.outputs)}
    return sorted(name for name in types if name.startswith("FOLEY_"))


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"
