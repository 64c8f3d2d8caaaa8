"""Every error a user can meet has a title, a name that stays, and a place on docs/errors.md."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import hunyuan_foley_core
from hunyuan_foley_core import errors
from hunyuan_foley_core.errors import FoleyError, MissingFileError

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / errors.PAGE).read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\S+)\n\*\*(.+)\*\*$", PAGE, re.MULTILINE))


def kinds(base=FoleyError) -> set[type[FoleyError]]:
    return {base}.union(*(kinds(kind) for kind in base.__subclasses__()))


@pytest.fixture(scope="module")
def all_kinds():
    """Of every module, whichever of them defines some."""
    for module in pkgutil.walk_packages(hunyuan_foley_core.__path__, "hunyuan_foley_core."):
        if module.name.endswith("errors"):
            importlib.import_module(module.name)
    return {kind for kind in kinds() if kind.__module__.startswith("hunyuan_foley_core.")}


def test_the_page_and_the_code_have_the_same_kinds_and_titles(all_kinds):
    assert {kind.__name__ for kind in all_kinds} == set(errors.TITLES)
    assert SECTIONS == {kind.anchor(): kind.title() for kind in all_kinds}


def test_each_section_says_what_to_do():
    for section in PAGE.split("### ")[1:]:
        assert "\nWhat to do: " in section, section.splitlines()[0]


def test_titles_are_short_and_all_different():
    titles = list(errors.TITLES.values())
    assert len(set(titles)) == len(titles) and all(len(title) <= 45 and not title.endswith(".") for title in titles)


def test_a_message_is_one_paragraph_with_title_and_place():
    error = MissingFileError("There is no file x.pth.", "Expected one.", "Put it there.")
    assert str(error) == (
        "A model file is missing. There is no file x.pth. Expected one. Put it there. [docs/errors.md#missing-file]"
    )
    assert (error.found, error.expected, error.remedy) == ("There is no file x.pth.", "Expected one.", "Put it there.")


def test_links_of_the_readme_and_the_pages_lead_somewhere():
    for page in (ROOT / "README.md", *ROOT.glob("docs/*.md")):
        linked = re.findall(r"errors\.md#([\w-]+)", page.read_text(encoding="utf-8"))
        assert set(linked) <= set(SECTIONS), page.name


def test_only_errors_of_the_catalogue_are_raised_for_the_user():
    """A bare FoleyError says least: each place names the kind."""
    for path in (*ROOT.glob("hunyuan_foley_core/**/*.py"), *ROOT.glob("nodes/*.py")):
        assert "raise FoleyError(" not in path.read_text(encoding="utf-8"), path.name
