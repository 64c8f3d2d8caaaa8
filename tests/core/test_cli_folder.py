"""Sound for many files: one load, errors that stay with their file, nothing made twice, nothing left half."""

import errno
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hunyuan_foley_core import batch, checkpoint, cli, cli_folder, cli_generate, media
from hunyuan_foley_core.errors import MediaError
from tests import videos

LOG = batch.LOG_NAME


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips, one of them in a folder below with a prompt beside it, and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    (folder / "b").mkdir()
    videos.make_video(folder / "a.mp4", frames=10, rate=25, waveform=videos.sine(0.4))
    videos.make_video(folder / "b" / "c.webm", frames=10, rate=25, codec="libvpx-vp9")
    (folder / "b" / "c.txt").write_text("rain\n", encoding="utf-8-sig")  # as Notepad on Windows writes it
    (folder / "broken.mp4").write_bytes(b"no video" * 99)
    return folder


@pytest.fixture
def made(monkeypatch):
    """Names of the videos that sound is made for, in order; the sound itself is noise of their seed, at once."""
    names = []

    def fake(files, settings, video, progress, report, loader):
        names.append((video.name, settings.prompt, settings.seed))
        return 0.1 * torch.randn(settings.takes, 1, 19_200, generator=torch.Generator().manual_seed(settings.seed))

    monkeypatch.setattr(cli_generate, "generate_takes", fake)
    return names


def run(models, out, *more) -> int:
    return cli.main(["generate", "--models", str(models), "--out", str(out), *map(str, more)])


def shown(folder) -> list[str]:
    ours = (LOG, batch.LOCK_NAME)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file() and path.name not in ours)


def test_a_folder_with_one_load_and_a_broken_file(models, clips, tmp_path, monkeypatch, capsys):
    loads = []
    for name in ("load_transformer", "load_vae", "load_clap", "load_siglip2", "load_synchformer"):
        real = getattr(checkpoint, name)
        monkeypatch.setattr(checkpoint, name, lambda *a, name=name, real=real, **k: (loads.append(name), real(*a, **k))[1])
    assert run(models, tmp_path, "--folder", clips, "--steps", 1, "--prompt", "steps") == 1
    assert sorted(loads) == sorted(set(loads)) and len(loads) == 5
    error = capsys.readouterr().err
    assert "2 made, 0 were there, 1 failed" in error and "broken.mp4 cannot be opened" in error.splitlines()[-1]
    assert shown(tmp_path) == ["a.mp4", "b/c.webm"]
    assert media.read_audio(tmp_path / "a.mp4")[0].std() > 0.001


def test_what_is_done_is_skipped_until_something_changes(models, clips, tmp_path, made, capsys):
    base = ["--folder", clips, "--prompt", "steps"]
    assert run(models, tmp_path, *base) == 1
    assert made == [("a.mp4", "steps", 0), ("c.webm", "rain", 0)]
    assert run(models, tmp_path, *base) == 1 and len(made) == 2
    assert "0 made, 2 were there, 1 failed" in capsys.readouterr().err
    (tmp_path / "a.mp4").unlink()
    assert run(models, tmp_path, *base) == 1 and [name for name, *_ in made[2:]] == ["a.mp4"]
    assert run(models, tmp_path, *base, "--seed", 5) == 1 and len(made) == 5
    assert run(models, tmp_path, *base, "--seed", 5, "--loudness", -20) == 1 and len(made) == 7


def test_a_kill_costs_one_file_and_leaves_nothing_half(models, clips, tmp_path, made, monkeypatch, capsys):
    """The process ends while the second file is being written; the first stays, the same command makes the rest."""
    real = media.mux

    def killed(source, waveform, sample_rate, out, **others):
        if out.name == "c.webm":
            (out.parent / ".c.1234abcd.tmp.webm").write_bytes(b"half")  # as SIGKILL leaves it
            raise KeyboardInterrupt
        return real(source, waveform, sample_rate, out, **others)

    monkeypatch.setattr(media, "mux", killed)
    assert run(models, tmp_path, "--folder", clips) == 130
    assert "goes on from there" in capsys.readouterr().err
    assert json.loads((tmp_path / LOG).read_text())["files"].keys() == {"a.mp4"}
    monkeypatch.setattr(media, "mux", real)
    assert run(models, tmp_path, "--folder", clips) == 1
    assert [name for name, *_ in made] == ["a.mp4", "c.webm", "c.webm"]
    assert shown(tmp_path) == ["a.mp4", "b/c.webm"]


def test_a_csv_says_what_each_file_gets(models, clips, tmp_path, made, capsys):
    table = clips / "list.csv"
    table.write_text(
        "file;prompt;seed;audio_only;out;loudness;mix\n"
        'a.mp4;"a door, slams";3;yes;x/door.wav;;\n'
        "a.mp4;;4;no;;-20;yes\n"
        "b/c.webm;;many;;;;\n"
        "gone.mp4;;;;;;\n"
        ";;;;;;\n"
    )
    assert run(models, tmp_path, "--csv", table, "--prompt", "steps") == 1
    assert made == [("a.mp4", "a door, slams", 3), ("a.mp4", "steps", 4)]
    assert shown(tmp_path) == ["a.mp4", "x/door.wav"]
    error = capsys.readouterr().err
    assert "b/c.webm (row 4): A value cannot be used" in error and "gone.mp4 (row 5): There is no file" in error


def test_results_stay_in_their_folder(models, clips, tmp_path, made, capsys):
    table, out = clips / "b" / "list.csv", tmp_path / "out"
    table.write_text(f"file,out\n../a.mp4,\nc.webm,../x.wav\nc.webm,{tmp_path}/y.wav\nc.webm,z/../z.wav\n")
    assert run(models, out, "--csv", table) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"] and shown(out) == ["a.mp4", "z.wav"]
    error = capsys.readouterr().err
    assert "c.webm (row 3): The result was to go to" in error and "c.webm (row 4): The result was to go to" in error


def test_two_runs_into_one_folder_keep_each_others_log(models, clips, tmp_path, made, monkeypatch, capsys):
    """The second run begins and ends while the first makes its first file, which is not that of the second."""
    base, real = ["--csv", clips / "all.csv"], media.mux
    (clips / "all.csv").write_text("file\na.mp4\nb/c.webm\n")
    (clips / "one.csv").write_text("file\nb/c.webm\n")

    def with_another_run(*arguments, **others):
        monkeypatch.setattr(media, "mux", real)
        assert run(models, tmp_path, "--csv", clips / "one.csv") == 0
        return real(*arguments, **others)

    monkeypatch.setattr(media, "mux", with_another_run)
    assert run(models, tmp_path, *base) == 0
    assert [name for name, *_ in made] == ["a.mp4", "c.webm"]
    assert json.loads((tmp_path / LOG).read_text())["files"].keys() == {"a.mp4", "b/c.webm"}


def test_runs_that_note_at_the_same_time_lose_nothing(tmp_path, monkeypatch):
    real = batch._Log._read
    monkeypatch.setattr(batch._Log, "_read", lambda log: (real(log), time.sleep(0.002)))  # time for another one to write

    def note_all(run):
        log = batch._Log(tmp_path / LOG)
        for number in range(10):
            log.note(batch.Job("x", (tmp_path / f"{run}_{number}.mp4",), "digest"))

    with ThreadPoolExecutor(8) as runs:
        list(runs.map(note_all, range(8)))
    assert len(json.loads((tmp_path / LOG).read_text())["files"]) == 80


def test_texts_in_utf_16_are_read_and_others_are_named(models, clips, tmp_path, made, capsys):
    clips = shutil.copytree(clips, tmp_path / "clips")
    (clips / "a.txt").write_text("a caf\u00e9", encoding="utf-16")
    (clips / "b" / "c.txt").write_text("a caf\u00e9", encoding="cp1252")
    assert run(models, tmp_path / "out", "--folder", clips) == 1 and made == [("a.mp4", "a caf\u00e9", 0)]
    assert "b/c.webm: " in (error := capsys.readouterr().err) and "c.txt cannot be read (byte 0xe9 in line 1 is not" in error
    (clips / "list.csv").write_text("file,prompt\na.mp4,a caf\u00e9\n", encoding="utf-16")
    assert run(models, tmp_path / "more", "--csv", clips / "list.csv") == 0 and made[1:] == made[:1]


def test_a_row_with_more_cells_than_columns_fails_and_empty_ones_do_not_count(models, clips, tmp_path, made, capsys):
    table = clips / "list.csv"
    table.write_text("file,seed,prompt,\na.mp4,3,a gate squeaks, birds\na.mp4,4,rain,,,\nb/c.webm,5,a gate, birds,wind\n")
    assert run(models, tmp_path, "--csv", table) == 1
    assert made == [("a.mp4", "rain", 4)]
    error = capsys.readouterr().err
    assert "a.mp4 (row 2): `birds` stands in no column" in error and "Put the prompt in quotes" in error
    assert "b/c.webm (row 4): `birds wind` stands in no column" in error


@pytest.mark.parametrize("text, message", [
    ("file,colour\na.mp4,red\n", "unknown column `colour`"),
    ("file,models\na.mp4,x\n", "unknown column `models`"),
    ("video\na.mp4\n", "unknown column `video`"),
    ("prompt\nx\n", "no column `file`"),
    ("file,prompt\n", "no rows"),
    ("file,prompt\n,rain\n", "a row without a file"),
    ("file\na.mp4\na.mp4\n", "would both be written"),
])
def test_a_table_that_is_none_is_refused_before_anything(models, clips, tmp_path, made, capsys, text, message):
    (clips / "bad.csv").write_text(text)
    assert run(models, tmp_path / "out", "--csv", clips / "bad.csv") == 1
    assert message in capsys.readouterr().err and not made


def test_files_of_somebody_else_are_not_overwritten(models, clips, tmp_path, made, capsys):
    shutil.copy(clips / "a.mp4", tmp_path / "a.mp4")
    before = (tmp_path / "a.mp4").read_bytes()
    assert run(models, tmp_path, "--folder", clips) == 1
    assert "was not made by this command" in capsys.readouterr().err
    assert (tmp_path / "a.mp4").read_bytes() == before and [name for name, *_ in made] == ["c.webm"]
    assert run(models, clips, "--folder", clips) == 1 and "where the videos are" in capsys.readouterr().err


def test_a_full_disk_stops_the_rest(models, clips, tmp_path, made, monkeypatch, capsys):
    def full(*_, **__):
        raise MediaError("No room.") from OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(media, "mux", full)
    monkeypatch.setattr(cli_folder.cli_media, "_kept", lambda *_: tmp_path / "elsewhere.flac")
    assert run(models, tmp_path, "--folder", clips) == 1
    error = capsys.readouterr().err
    assert "nothing more was tried" in error and len(made) == 1 and shown(tmp_path) == []


def test_takes_of_each_file(models, clips, tmp_path, made):
    assert run(models, tmp_path, "--folder", clips / "b", "--takes", 2, "--audio-only") == 0
    assert shown(tmp_path) == ["c_seed0_take0.flac", "c_seed0_take1.flac"]
    assert run(models, tmp_path, "--folder", clips / "b", "--takes", 2, "--audio-only") == 0 and len(made) == 1
