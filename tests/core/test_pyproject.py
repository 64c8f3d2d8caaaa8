"""What the registry and pip read: complete, of the form they ask for, and asking for nothing that ComfyUI does not bring."""

import re
from pathlib import Path

import pytest
from PIL import Image

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the package it came from
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
DOCUMENT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, COMFY = DOCUMENT["project"], DOCUMENT["tool"]["comfy"]
HOME = PROJECT["urls"]["Repository"]
RAW = HOME.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
VERSION = re.compile(r"\d+\.\d+\.\d+")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_what_the_registry_asks_for_is_there():
    assert re.fullmatch(r"[a-z]([a-z0-9]|[-_.](?=[a-z0-9]))*", PROJECT["name"]) and len(PROJECT["name"]) < 100
    assert "comfyui" not in PROJECT["name"]
    assert VERSION.fullmatch(PROJECT["version"])
    assert (ROOT / PROJECT["license"]["file"]).read_text().lstrip().startswith("Apache License")
    assert 20 < len(PROJECT["description"]) < 200
    assert re.fullmatch(r"[a-z0-9-]+", COMFY["PublisherId"]) and COMFY["DisplayName"]
    assert re.fullmatch(r">=\d+\.\d+\.\d+", COMFY["requires-comfyui"])
    assert COMFY["includes"] == [] and "web" not in COMFY  # the code's WEB_DIRECTORY says where the help is


def test_addresses_have_one_home_and_lead_to_files_that_are_here():
    assert all(address == HOME or address.startswith(f"{HOME}/") for address in PROJECT["urls"].values())
    assert set(PROJECT["urls"]) >= {"Homepage", "Repository", "Documentation", "Issues"}
    for address in PROJECT["urls"].values():
        _, blob, path = address.partition("/blob/main/")
        assert not blob or (ROOT / path).is_file()


@pytest.mark.parametrize(("name", "fits"), [
    ("Icon", lambda width, height: width == height <= 400), ("Banner", lambda width, height: width * 9 == height * 21),
])
def test_pictures_are_here_and_of_the_right_shape(name, fits):
    assert COMFY[name].startswith(RAW)
    with Image.open(ROOT / COMFY[name].removeprefix(RAW)) as picture:
        assert picture.format == "PNG" and fits(*picture.size)


def test_pictures_are_what_their_script_draws(tmp_path, monkeypatch):
    import registry_pictures

    monkeypatch.setattr(registry_pictures, "FOLDER", tmp_path)
    registry_pictures.main()
    for name in ("icon.png", "banner.png"):
        with Image.open(tmp_path / name) as drawn, Image.open(ROOT / "docs" / "registry" / name) as kept:
            small = [picture.convert("RGB").resize((40, 40)) for picture in (drawn, kept)]
        worst = max(abs(a - b) for a, b in zip(*(picture.tobytes() for picture in small), strict=True))
        assert worst <= 4  # versions of Pillow round edges differently


def test_the_changelog_tells_of_this_version():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", text, re.MULTILINE)
    released = [(tuple(map(int, number.split("."))), date) for number, date in versions if number != "Unreleased"]
    assert len(released) == len(re.findall(r"^## \[\d", text, re.MULTILINE))
    assert ".".join(map(str, released[0][0])) == PROJECT["version"]
    assert released == sorted(released, reverse=True) and all(date for _, date in released)
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= KINDS
