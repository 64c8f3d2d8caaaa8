"""The documents: links lead somewhere, pictures are there, commands exist, and nothing is left out of the index."""

import re
import shlex
from pathlib import Path

import pytest

from hunyuan_foley_core import cli

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), ROOT / "weights" / "README.md"])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = cli.parser()._subparsers._group_actions[0].choices
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[*`]", "", heading).lower()).replace(" ", "-").strip() for heading in headings}


def links(page: Path) -> list[str]:
    return [target for target in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists() and place.is_relative_to(ROOT), f"{target} is not there"
        assert not anchor or anchor in anchors(place), f"{place.name} has no section {anchor}"


def test_every_page_is_reached_from_the_index():
    reached, todo = set(), [DOCS / "README.md"]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            targets = ((page.parent / target.partition("#")[0]).resolve() for target in links(page) if target[0] != "#")
            todo += [target for target in targets if target.suffix == ".md"]
    assert set(PAGES) <= reached | {ROOT / "README.md"}
    assert DOCS / "README.md" in {(ROOT / target).resolve() for target in links(ROOT / "README.md")}


def test_headings_are_told_apart():
    assert "what-it-costs" in anchors(DOCS / "precision.md") and "no-such-section" not in anchors(DOCS / "precision.md")


def test_every_workflow_has_a_section_with_its_picture():
    text = (DOCS / "workflows.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## (\S+)$", text, re.MULTILINE)) == WORKFLOWS
    assert sorted(re.findall(r"^!\[\S+\]\(\.\./workflows/(\S+)\.jpg\)$", text, re.MULTILINE)) == WORKFLOWS
    table = text.partition("\n## ")[0]
    assert set(re.findall(r"\[(\w+)\]\(#", table)) == set(WORKFLOWS)


def test_every_node_has_its_line():
    text = (DOCS / "nodes.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "nodes").glob("*.py"))
    names = [name.removesuffix(" (Foley)") for name in re.findall(r'node_id="Foley\w+",\s*display_name="([^"]+)"', code)]
    assert len(names) > 20
    assert not [name for name in names if name not in text]


def shell_lines() -> list[tuple[str, str]]:
    """Commands of this project in the pages' blocks, continued lines joined."""
    blocks = ((page.name, block.replace("\\\n", " ")) for page in PAGES for block in FENCE.findall(page.read_text("utf-8")))
    return [
        (name, line) for name, block in blocks for line in block.splitlines()
        if line.startswith(("python -m hunyuan_foley_core", "python scripts/"))
    ]


@pytest.mark.parametrize(("page", "line"), shell_lines())
def test_commands_exist(page, line):
    words = shlex.split(line, comments=True)
    if words[1] != "-m":
        assert (ROOT / words[1]).is_file(), line
        return
    options = {name for action in COMMANDS[words[3]]._actions for name in action.option_strings}
    given = {word.partition("=")[0] for word in words[4:] if word.startswith("--")}
    assert given <= options, f"{words[3]} has no {', '.join(given - options)}"
