"""The help pages and translations: every node, input and output, in every language, as the schemas have them."""

import json
import re
from collections import Counter

import help_pages
import help_pictures
import node_locales
import node_schemas
import pytest
from node_locales import ENGLISH, LANGUAGES, LOCALES, ROOT

EVERY_LANGUAGE = (ENGLISH, *LANGUAGES)
LETTERS = {"zh": "\u4e00-\u9fff", "ja": "\u3040-\u30ff", "ko": "\uac00-\ud7af"}
FOREIGN = {"zh": LETTERS["ja"] + LETTERS["ko"], "ja": LETTERS["ko"], "ko": LETTERS["ja"] + LETTERS["zh"]}
# Nothing to translate in them.
SAME_EVERYWHERE = {"VAE", "cfg", "Latent", "alpha", "SigLIP2", "Synchformer", "CLAP"}
SHORTENED = {"Encode Video": "(SigLIP2 + Synchformer)", "Encode Text": "(CLAP)", "Foley Sampler": "(MMDiT)"}
CODE, NUMBER = re.compile(r"`[^`]*`"), re.compile(r"\d+(?:\.\d+)?")
FILES_AND_PATHS = re.compile(r"(?:\w+[./-])*\w+(?:_\w+|/\w+|\.(?:txt|json|pth|safetensors))(?:[./-]\w+)*", re.ASCII)
# Five words of English in a row are a sentence that was left over, four are the command that installs PySceneDetect.
ENGLISH_SENTENCE = re.compile(r"[A-Za-z']{2,}(?:,? [A-Za-z']{2,}){4,}")
NUMBERS = re.compile(r"2\^64 - 1|-?\d[\d.]*(?:e-?\d+)?")
QUOTED = re.compile("\u201c[^\u201d]*\u201d")


@pytest.fixture(scope="module")
def described(comfy) -> dict:
    """The nodes as /object_info has them."""
    return node_schemas.described_nodes()


@pytest.fixture(scope="module")
def nodes(comfy):
    return node_schemas.nodes()


def declared(node: dict) -> dict:
    """Inputs of a node by name: type, and settings of the widget."""
    return {name: entry for kind in ("required", "optional") for name, entry in node["input"].get(kind, {}).items()}


def definitions(language: str) -> dict:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


def texts_of(definition: dict):
    yield definition["display_name"]
    yield definition["description"]
    for part in (*definition["inputs"].values(), *definition["outputs"].values()):
        yield from part.values()


def own_parts(node, language: str) -> tuple[str, str]:
    return help_pages.own_parts(help_pages.page_path(node, language), node_locales.catalogue(language))


def table(page: str, title: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    _, _, below = page.partition(f"\n## {title}\n")
    section, _, _ = below.partition("\n## ")
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_each_input_and_output_says_what_it_is(described):
    for node in described.values():
        assert node["description"]
        assert all(settings.get("tooltip") for _, settings in declared(node).values()), node["name"]
        assert all(node["output_tooltips"]), node["name"]


@pytest.mark.parametrize("language", EVERY_LANGUAGE)
def test_each_node_input_and_output_is_translated(described, language):
    translated = definitions(language)
    assert list(translated) == list(described)
    for name, node in described.items():
        ours = translated[name]
        assert ours["display_name"] and ours["description"]
        assert list(ours["inputs"]) == list(declared(node))
        assert list(ours["outputs"]) == [str(index) for index in range(len(node["output"]))]
        assert all(part["name"] and part["tooltip"] for part in (*ours["inputs"].values(), *ours["outputs"].values()))


def test_english_is_what_the_schemas_say(described):
    for name, ours in definitions(ENGLISH).items():
        node = described[name]
        assert (ours["display_name"], ours["description"]) == (node["display_name"], node["description"])
        tooltips = {input: settings["tooltip"] for input, (_, settings) in declared(node).items()}
        assert {input: part["tooltip"] for input, part in ours["inputs"].items()} == tooltips


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_are_in_their_language(nodes, language):
    known = node_locales.catalogue(language)
    assert node_locales.untranslated(nodes, known) == [] and node_locales.superfluous(nodes, known) == []
    for translated in (*known.names.values(), *known.texts.values(), *known.page.values()):
        plain = CODE.sub("", translated)
        if re.search("[a-zA-Z]", plain) and translated not in SAME_EVERYWHERE:
            assert re.search(f"[{LETTERS[language]}\u4e00-\u9fff]", plain), translated
        assert not re.search(f"[{FOREIGN[language]}]", plain), translated
        assert not ENGLISH_SENTENCE.search(plain), translated
    sentences = "".join(known.texts.values())
    assert len(re.findall(f"[{LETTERS[language]}]", sentences)) > len(known.texts) * 8


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_keep_numbers_files_and_code(language):
    for english, translated in node_locales.catalogue(language).texts.items():
        assert Counter(CODE.findall(english)) == Counter(CODE.findall(translated)), translated
        for pattern in (NUMBER, FILES_AND_PATHS):
            lost = Counter(pattern.findall(english)) - Counter(pattern.findall(translated))
            assert not lost, (lost, translated)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nodes_are_called_what_they_are_called(nodes, language):
    known = node_locales.catalogue(language)
    names = {node.display_name: known.text(node.display_name) for node in nodes}
    for short, rest in SHORTENED.items():
        names[short] = re.split("[(\uff08]", names[f"{short} {rest}"])[0].strip()
    texts = list(known.texts.items())
    texts += [("\n".join(own_parts(node, ENGLISH)), "\n".join(own_parts(node, language))) for node in nodes]
    for english, translated in texts:
        for name in sorted(names, key=len, reverse=True):
            if name in english:
                assert names[name] in translated, (name, names[name], translated)
            english = english.replace(name, "")  # Foley Layer Mix is no Foley Layer


def test_no_letter_means_something_to_the_page():
    # vue-i18n, which shows these texts, takes them for places of values, links and plural forms.
    for language in EVERY_LANGUAGE:
        texts = [text for definition in definitions(language).values() for text in texts_of(definition)]
        assert [text for text in texts if set(text) & set("{}@|")] == []


@pytest.mark.parametrize("language", EVERY_LANGUAGE)
def test_tables_agree_with_the_schemas(described, nodes, language):
    known = node_locales.catalogue(language)
    for node in nodes:
        page = help_pages.page_path(node, language).read_text(encoding="utf-8")
        inputs = declared(described[node.id])
        rows = {CODE.findall(row[0])[0].strip("`"): row for row in table(page, known.word("Inputs"))}
        assert list(rows) == list(inputs)
        for name, (kind, settings) in inputs.items():
            takes, _, meaning = rows[name][1].partition("<br>")
            assert meaning
            default = settings.get("default")
            if "min" in settings:
                assert [number(text) for text in NUMBERS.findall(takes)] == [settings["min"], settings["max"], default], takes
            elif kind not in ("COMBO", "STRING", "BOOLEAN"):
                assert CODE.findall(takes) == [f"`{kind}`"]
            elif kind == "BOOLEAN":
                assert takes.endswith(known.word("on" if default else "off"))
            elif kind == "STRING":
                assert "\n".join(text.strip("`") for text in CODE.findall(takes)) == (default or "")
            elif default and "." not in default:
                assert CODE.findall(takes)[-1] == f"`{default}`"
                assert len(settings["options"]) > 8 or CODE.findall(takes)[:-1] == [f"`{o}`" for o in settings["options"]]
        outputs = [CODE.findall(row[1])[0].strip("`") for row in table(page, known.word("Outputs"))]
        assert outputs == list(described[node.id]["output"])


def number(text: str) -> float:
    return 2**64 - 1 if text == "2^64 - 1" else float(text)


def test_pages_pictures_and_locales_are_up_to_date(nodes):
    # If not: scripts/help_pages.py
    expected = dict((*node_locales.files(nodes), *help_pages.pages(nodes)))
    assert [path for path, text in expected.items() if path.read_text(encoding="utf-8") != text] == []
    pictures = [help_pages.picture_path(node) for node in nodes]
    drawn = [help_pictures.drawn(path) for path in pictures]
    assert drawn == [help_pictures.digest(node) for node in nodes]
    there = {path for folder in (help_pages.PAGES, LOCALES) for path in folder.rglob("*") if path.is_file()}
    assert there == {*expected, *pictures}


def test_pages_are_written_in_full(nodes):
    assert list(help_pages.unwritten(nodes)) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_say_the_same_in_their_language(nodes, language):
    for node in nodes:
        for english, translated in zip(own_parts(node, ENGLISH), own_parts(node, language), strict=True):
            assert english.count("\n- ") == translated.count("\n- "), node.id
            assert Counter(CODE.findall(english)) == Counter(CODE.findall(translated)), node.id
            lost = set(NUMBER.findall(english)) - set(NUMBER.findall(translated))
            assert not lost, (node.id, lost)
            plain = QUOTED.sub("", CODE.sub("", translated))
            assert not ENGLISH_SENTENCE.search(plain), node.id
            assert not re.search(f"[{FOREIGN[language]}]", plain), node.id
            assert len(re.findall(f"[{LETTERS[language]}]", plain)) > 20, node.id


@pytest.mark.parametrize("language", EVERY_LANGUAGE)
def test_pages_are_shown_as_meant(nodes, language):
    for node in nodes:
        page = help_pages.page_path(node, language).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)]*)\)", page):
            # The page looks for what a help page shows from docs/ on, in every language and under any name of the pack.
            assert (help_pages.PAGES / target).is_file(), (node.id, target)
        for line in CODE.sub("", page).splitlines():
            assert len(re.findall(r"(?<!\\)~", line)) < 2, line  # would be struck out
            assert line.count("**") % 2 == 0, line
            # A closing ** between a full stop and a letter is no closing one.
            assert not re.search(r"\*\*[^*]*[^\w*\s]\*\*\w", line), line


def test_pictures_are_small_and_wired_to_what_fits(nodes):
    titles, stock = {node.display_name.partition(" (")[0]: node for node in nodes}, set()
    for node in nodes:
        links = [*help_pictures.sources(node), *help_pictures.targets(node)]
        assert links or node.id == "FoleyDownloadModels"
        assert help_pages.picture_path(node).stat().st_size < 30_000
        for link in links:
            other = titles.get(link.title)
            sockets = {(part.name, part.type) for part in (*other.inputs, *other.outputs)} if other else None
            assert sockets is None or (link.socket, link.type) in sockets, (node.id, link)
            stock.update({link.title} - set(titles))
    assert stock == {"Load Video", "Load Audio", "Save Video", "KSampler"}


def test_all_of_it_is_small():
    files = [path for folder in (help_pages.PAGES, LOCALES) for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert (ROOT / "web" / "locales.js").is_file()
