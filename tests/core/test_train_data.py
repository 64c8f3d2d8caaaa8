"""What is trained on, before it is encoded: clips of the small world on disk, manifests, measured bandwidth."""

import json
import math
import os
import shutil
import sys

import pytest
import torch

from hunyuan_foley_core import cli, media
from hunyuan_foley_core.data import make_clip, write_dataset
from hunyuan_foley_core.errors import InputError, MediaError
from hunyuan_foley_core.train.bandwidth import WIDE_BAND, bandwidth
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.manifest import described, read_dataset

SIZE = (32, 48)  # height, width


def lines(manifest):
    return [json.loads(line) for line in manifest.read_text().splitlines()]


# Clips of the small world


def test_the_world_is_written_with_its_sound_and_captions(tmp_path):
    manifest = write_dataset(tmp_path / "w", range(3, 5), 1.0, 12.5, SIZE)
    first, second = lines(manifest)
    clip = make_clip(3, 1.0)
    assert first.keys() == {"video", "audio", "caption"}  # nothing of the truth
    assert (first["caption"], second["caption"]) == (clip.caption, make_clip(4, 1.0).caption)
    assert media.read_audio(tmp_path / "w" / first["audio"])[0][0].equal(clip.waveform)
    info = media.probe(tmp_path / "w" / first["video"])
    assert (info.width, info.height, info.has_audio) == (48, 32, False)
    assert info.duration == pytest.approx(12 / 12.5)


def test_writing_goes_on_where_it_was_stopped(tmp_path):
    def stop(done, of):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path, range(4), 0.5, size=SIZE, callback=stop)
    manifest = tmp_path / "manifest.jsonl"
    assert len(lines(manifest)) == 2
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    (tmp_path / lines(manifest)[0]["audio"]).unlink()  # lost since
    manifest.write_text(manifest.read_text() + '{"video": "0000')  # as a kill leaves it
    write_dataset(tmp_path, range(4), 0.5, size=SIZE)
    assert sorted(line["video"][:8] for line in lines(manifest)) == [f"{seed:08d}" for seed in range(4)]
    kept = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns == stamp]
    assert [path.name[:8] for path in kept] == ["00000001"]
    assert not list(tmp_path.glob("*.tmp*"))


def test_other_rates_share_the_folder(tmp_path):
    for fps in (10, 12.5):
        manifest = write_dataset(tmp_path, [7], 0.5, fps, SIZE, look="plain")
    assert [line["video"] for line in lines(manifest)] == [f"00000007-0.5s-{fps}fps-48x32-plain.mp4" for fps in (10, 12.5)]


def test_the_command_writes_the_world(tmp_path, capsys):
    words = ["world", str(tmp_path), "--seconds", "0.5", "--size", "48x32"]
    assert cli.main([*words, "--seeds", "1:3"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "manifest.jsonl")
    assert len(list(tmp_path.glob("*.mp4"))) == 2
    for wrong, message in (("5", "--seeds is '5'"), ("1:x", "such as 1:2")):
        assert cli.main([*words, "--seeds", wrong]) == 1
        assert message in capsys.readouterr().err
    assert cli.main([*words, "--seeds", "1:2", "--size", "33x32"]) == 1
    assert "even" in capsys.readouterr().err
    assert cli.main([*words, "--seeds", "1:2", "--things", "1"]) == 0  # another clip of the same seed
    assert (tmp_path / "00000001-0.5s-25fps-48x32-full-1.mp4").is_file()
    assert cli.main([*words, "--seeds", "1:2", "--things", "9"]) == 1
    assert "Expected 1 to 3" in capsys.readouterr().err


def test_a_world_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="cannot be written to.*goes on from there"):
        write_dataset(tmp_path / "file", [1], 0.5, size=SIZE)
    with pytest.raises(InputError, match="33 x 32"):
        write_dataset(tmp_path, [1], 0.5, size=(32, 33))


def test_a_manifest_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "manifest.jsonl").write_bytes(b'{"video": "caf\xe9.mp4"}')
    with pytest.raises(InputError, match="was not written by this command.*Move it away"):
        write_dataset(tmp_path, [1], 0.5, size=SIZE)
    assert (tmp_path / "manifest.jsonl").read_bytes() == b'{"video": "caf\xe9.mp4"}'


# Which clips


@pytest.fixture
def folder(tmp_path):
    """Two captioned videos, one without caption, and two files that belong to none."""
    (tmp_path / "deep").mkdir()
    for name in ("a.mp4", "deep/b.MOV", "c.mkv", "a.wav", "stray.flac", "readme.md"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("rain on leaves\n", encoding="utf-8-sig")
    (tmp_path / "deep" / "b.txt").write_text("\u9580\u304c\u9589\u307e\u308b", encoding="utf-8")
    (tmp_path / "d.txt").write_text("nobody's")
    return tmp_path


def test_a_folder_gives_videos_with_what_lies_beside_them(folder):
    dataset = read_dataset(folder)
    assert [entry.name for entry in dataset.entries] == ["a.mp4", "c.mkv", "deep/b.MOV"]
    assert [entry.audio.name for entry in dataset.entries] == ["a.wav", "c.mkv", "b.MOV"]
    assert [entry.caption for entry in dataset.entries] == ["rain on leaves", "", "\u9580\u304c\u9589\u307e\u308b"]
    strays, silent = dataset.warnings
    assert "No video belongs to" in strays and "d.txt" in strays and "stray.flac" in strays
    assert "1 of 3 clips" in silent and "c.mkv" in silent
    assert read_dataset(folder, "a sound").entries[1].caption == "a sound"


def test_a_manifest_says_it_all(folder):
    manifest = folder / "manifest.jsonl"
    rows = [
        {"video": "a.mp4", "audio": "stray.flac", "caption": "rain", "tags": ["water", "high-quality"], "more": 1},
        {"video": str(folder / "c.mkv"), "tags": "wind"},
        {"video": "a.mp4", "caption": "drops"},
    ]
    manifest.write_text("\n\n".join(map(json.dumps, rows)))
    entries = read_dataset(folder, "noise").entries
    assert entries == read_dataset(manifest, "noise").entries
    assert [entry.video for entry in entries] == [folder / "a.mp4", folder / "c.mkv", folder / "a.mp4"]
    assert [entry.audio.name for entry in entries] == ["stray.flac", "c.mkv", "a.mp4"]
    assert [entry.caption for entry in entries] == ["rain, water", "noise, wind", "drops"]
    assert [entry.take for entry in entries] == [0, 0, 1]


@pytest.mark.parametrize("text, message", [
    ("video: a.mp4", "Line 1 of m.jsonl is `video: a.mp4`.*JSON object"),
    ('{"video": "a.mp4"}\n{"video": "a', "Line 2 of m.jsonl"),
    ('["a.mp4"]', "JSON object"),
    ('{"caption": "rain"}', "Line 1 of m.jsonl names no video"),
    ('{"video": 3}', "the video 3"),
    ('{"video": "a.mp4", "tags": 5}', "tags that are no list"),
    ("", "has no clip"),
])
def test_manifests_that_make_no_sense(tmp_path, text, message):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(TrainingError, match=message):
        read_dataset(tmp_path / "m.jsonl")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_manifests_of_other_programs(tmp_path, encoding):
    """Windows' line ends, and a character in a caption at which Python would begin a new line."""
    rows = [{"video": "a.mp4", "caption": "caf\u00e9\u2028noise"}, {"video": "b.mp4", "caption": "rain"}]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "m.jsonl").write_text(lines, encoding=encoding, newline="")
    entries = read_dataset(tmp_path / "m.jsonl").entries
    assert [(entry.name, entry.caption) for entry in entries] == [(row["video"], row["caption"]) for row in rows]


@pytest.mark.parametrize("encoding, message", [("cp1252", "byte 0xe9 in line 3 is not UTF-8"), ("utf-16", "line 3 is not UTF-16")])
def test_a_manifest_in_another_encoding_names_the_line(tmp_path, encoding, message):
    text = '\n{"video": "a.mp4"}\n{"video": "b.mp4", "caption": "caf\u00e9"}'.encode(encoding)
    (tmp_path / "m.jsonl").write_bytes(text[:-1] if encoding == "utf-16" else text)
    with pytest.raises(TrainingError, match=f"m.jsonl cannot be read: .*{message}.*Save it as such"):
        read_dataset(tmp_path / "m.jsonl")


def test_nothing_to_train_on(tmp_path):
    with pytest.raises(TrainingError, match="has no clip.*mp4"):
        read_dataset(tmp_path)
    with pytest.raises(TrainingError, match="There is no folder or file"):
        read_dataset(tmp_path / "nowhere")
    (tmp_path / "a.mp4").touch()
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(TrainingError, match="None of the clips.*The first is a.mp4: .*a.txt.*UTF-8"):
        read_dataset(tmp_path)


def test_a_caption_in_another_encoding_leaves_out_its_clip(folder):
    (folder / "a.txt").write_text("caf\u00e9", encoding="cp1252")
    dataset = read_dataset(folder)
    assert [entry.name for entry in dataset.entries] == ["c.mkv", "deep/b.MOV"]
    ((name, reason),) = dataset.skipped
    assert name == "a.mp4" and "a.txt cannot be read" in reason and "UTF-8" in reason
    assert not any("a.wav" in warning for warning in dataset.warnings)


def test_other_clips_are_known_by_files_and_captions(folder, tmp_path_factory):
    first = described(read_dataset(folder).entries)
    moved = shutil.copytree(folder, tmp_path_factory.mktemp("moved") / "clips", copy_function=shutil.copy2)
    assert first.startswith("3 clips") and described(read_dataset(moved).entries) == first
    assert described(read_dataset(folder, "a sound").entries) != first
    os.utime(folder / "a.wav", (0, 0))
    touched = described(read_dataset(folder).entries)
    (folder / "a.mp4").unlink()
    assert len({first, touched, described(read_dataset(folder).entries)}) == 3


@pytest.mark.parametrize("name", ["a.mp4", "deep/b.MOV", "a.wav"])
def test_one_clip_is_no_folder_of_clips(folder, name):
    (folder / name).write_bytes(b"\xff\x00")
    with pytest.raises(TrainingError, match="is a single clip.*Give the folder of the clips"):
        read_dataset(folder / name)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "m.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(TrainingError, match="pip install pyarrow"):
        read_dataset(tmp_path / "m.parquet")


def test_parquet_reads_like_json_lines(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"video": "a.mp4", "caption": "rain", "tags": ["water"]}, {"video": "b.mp4", "caption": None, "tags": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "m.parquet")
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_dataset(tmp_path / "m.parquet") == read_dataset(tmp_path / "m.jsonl")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(TrainingError, match="cannot be read as Parquet"):
        read_dataset(tmp_path / "m.parquet")


# Bandwidth


def tones(*parts, seconds=1.0):
    """[N] at 48 kHz: sines of (frequency in Hz, level in dB)."""
    time = torch.arange(round(seconds * 48_000), dtype=torch.float64) / 48_000
    return sum(10 ** (level / 20) * torch.sin(2 * math.pi * frequency * time) for frequency, level in parts).float()


@pytest.mark.parametrize("parts, expected", [
    ([(1000, -6)], 1000), ([(1000, -6), (17_000, -60)], 17_000), ([(1000, -6), (17_000, -72)], 1000),
    ([(300, -40), (15_000, -50)], 15_000),
])
def test_bandwidth_is_the_highest_within_60_db(parts, expected):
    assert bandwidth(tones(*parts)) == pytest.approx(expected, abs=200)


def test_padding_and_offset_do_not_count():
    """Over the whole of a mostly padded clip the mean would be far lower; beside a large offset all would be low."""
    sound = tones((1000, -50), (17_000, -100), seconds=0.5)
    assert bandwidth(torch.cat((torch.zeros(480_000), sound))) == pytest.approx(17_000, abs=200)
    assert bandwidth(tones((17_000, -50)) + 0.5) == pytest.approx(17_000, abs=200)


def test_bandwidth_of_little_and_nothing():
    assert bandwidth(torch.zeros(1, 48_000)) == 0 == bandwidth(torch.zeros(0)) == bandwidth(torch.full((5000,), 0.5))
    assert bandwidth(tones((9000, -6))[:500]) == pytest.approx(9000, abs=700)


def test_the_measure_agrees_with_how_the_world_was_made():
    clips = [make_clip(seed, 1.0) for seed in range(12)]
    assert {clip.tagged for clip in clips} == {True, False}
    assert all((bandwidth(clip.waveform) > WIDE_BAND) == clip.tagged for clip in clips)
