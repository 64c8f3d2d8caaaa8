"""scripts/benchmarks/prompts.py: the captions it asks with, what it measures, and where its tables go."""

from dataclasses import replace

import pytest
from benchmarks import prompts

from hunyuan_foley_core.evaluation.takes import first


@pytest.fixture(scope="module")
def bench():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompts, "SETTINGS", replace(prompts.SETTINGS, steps=1))
        yield prompts.Bench(clips=1, lessons=20)


def test_another_material_takes_the_place_of_the_one_named():
    takes = first(12, seconds=prompts.SECONDS, where=prompts.names_its_one_material)
    for clip in (take.scouted() for take in takes):
        other = prompts.OTHERS[prompts.material(clip)]
        assert other != prompts.material(clip)
        assert prompts.ADJECTIVES[other][0] in prompts.other_caption(clip)
        own = {word for adjective in prompts.ADJECTIVES[prompts.material(clip)] for word in adjective.split()}
        assert not own & set(prompts.other_caption(clip).split())


def test_each_way_of_asking_is_made_once_and_told_apart(bench):
    plain, unguided = bench.sounds(prompts.Asked()), bench.sounds(prompts.Asked(guidance=1.0))
    assert (plain[0] != unguided[0]).any()
    assert bench.sounds(prompts.Asked())[0] is plain[0]
    assert (bench.sounds(prompts.Asked(seen=False))[0] != plain[0]).any()
    assert (bench.sounds(prompts.Asked(tag=False))[0] != plain[0]).any()


def test_tables_are_of_one_width(bench, monkeypatch):
    for name in ("GUIDANCE", "WORDS_ONLY", "AGAINST"):
        monkeypatch.setattr(prompts, name, (1.0,))
    said, *tables = "\n".join(prompts.tables(bench)).split("\n\n")
    assert said.startswith("1 clips, ")
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.strip().splitlines()}) == 1


def test_tables_replace_those_of_the_page(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{prompts.BEGIN}\n{prompts.END}\nafter\n")
    prompts.put("| new |", page)
    assert page.read_text() == f"before\n{prompts.BEGIN}\n\n| new |\n\n{prompts.END}\nafter\n"
    prompts.put("| newer |", page)
    assert "| new |" not in page.read_text() and "| newer |" in page.read_text()


def test_a_page_without_marks_stays_as_it_is(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("no marks\n")
    with pytest.raises(SystemExit, match="lacks the lines"):
        prompts.put("| new |", page)
    assert page.read_text() == "no marks\n"
