"""Edits and layers on the command line, with the small model that comes with this repository."""

import json

import pytest
import torch

from hunyuan_foley_core import cli, media
from hunyuan_foley_core.layers import StemFolder
from hunyuan_foley_core.networks import Networks
from tests import videos

FAST = ["--steps", "2", "--prompt", "hammering on a glass block"]


without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="There is a GPU.")


def run(*words) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """1.5 s of stereo noise at 44.1 kHz in a float WAV."""
    path = tmp_path_factory.mktemp("sounds") / "stereo.wav"
    sound = 0.1 * torch.randn(2, 66_150, generator=torch.Generator().manual_seed(0))
    media.write_audio(path, sound, 44_100)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return videos.make_video(tmp_path_factory.mktemp("videos") / "clip.mp4", frames=40, rate=25)


def test_a_retake_in_a_file_keeps_every_sample_outside(stereo, video, tmp_path):
    out = tmp_path / "out.wav"
    assert run("retake", stereo, "--video", video, "--start", 0.5, "--end", 1, "--out", out, *FAST) == 0
    (old, _), (new, rate) = media.read_audio(stereo), media.read_audio(out)
    changed = (old != new).any(dim=0).nonzero()
    assert rate == 44_100 and old.shape == new.shape
    assert 22_050 <= int(changed.min()) < 22_060 and 44_090 < int(changed.max()) < 44_100


def test_an_extension_beyond_the_picture_is_told(stereo, video, tmp_path, capsys):
    out = tmp_path / "out.wav"
    assert run("extend", stereo, "--video", video, "--seconds", 1, "--out", out, *FAST) == 0
    assert "picture ends at 1.60 s, before the 2.50 s" in capsys.readouterr().err
    (old, _), (new, _) = media.read_audio(stereo), media.read_audio(out)
    assert new.shape[1] == 66_150 + 44_100 and torch.equal(new[:, :63_900], old[:, :63_900])


@pytest.mark.parametrize("edit", [["extend", "SOUND", "--seconds", 1], ["retake", "LONG", "--start", 2, "--end", 3]])
@pytest.mark.parametrize("how", [["--out", "out.mp4"], ["--out", "out.wav", "--mix"]])
def test_what_the_end_of_the_picture_would_cut_off_is_refused(stereo, tmp_path, monkeypatch, capsys, edit, how):
    video = videos.make_video(tmp_path / "clip.mp4", frames=40, rate=25, waveform=videos.sine(1.6))
    sounds = {"SOUND": stereo, "LONG": media.write_audio(tmp_path / "long.wav", torch.zeros(1, 4 * 48_000), 48_000).path}
    monkeypatch.setattr(Networks, "__init__", lambda *_, **__: pytest.fail("worked first"))
    monkeypatch.chdir(tmp_path)
    assert run(*(sounds.get(word, word) for word in edit), "--video", video, *how, *FAST) == 1
    error = capsys.readouterr().err
    assert "the picture of clip.mp4 at 1.60 s" in error and "Write a .wav or .flac" in error


def test_an_edit_keeps_all_channels_unless_they_are_to_be_mixed(tmp_path):
    sound = 0.1 * torch.randn(6, 48_000, generator=torch.Generator().manual_seed(0))
    surround, out = media.write_audio(tmp_path / "surround.wav", sound, 48_000).path, tmp_path / "out.wav"
    assert run("retake", surround, "--start", 0.5, "--end", 1, "--out", out, *FAST) == 0
    assert torch.equal(media.read_audio(out)[0][:, :24_000], sound[:, :24_000])
    assert run("retake", surround, "--start", 0.5, "--end", 1, "--out", out, "--gain", -6, *FAST) == 0
    assert media.read_audio(out)[0].shape[0] == 2


def test_a_video_that_does_not_say_how_long_it_is_is_seen(stereo, tmp_path, capsys):
    recording = videos.make_recording(tmp_path / "recording.webm", frames=40, rate=25)
    assert media.probe(recording).duration is None and media.picture_length(recording) == pytest.approx(1.6, abs=1e-3)
    sounds = []
    for more in (["--video", recording], []):
        assert run("retake", stereo, *more, "--start", 0.5, "--end", 1, "--out", tmp_path / "out.wav", *FAST) == 0
        sounds.append(media.read_audio(tmp_path / "out.wav")[0])
    assert "picture ends" not in capsys.readouterr().err and not torch.equal(*sounds)


def test_variations_are_as_long_as_the_sound_and_go_as_far_as_asked(stereo, tmp_path):
    made = {}
    for strength in (0, 0.5):
        out = tmp_path / f"{strength}.flac"
        assert run("vary", stereo, "--strength", strength, "--out", out, *FAST) == 0
        made[strength], rate = media.read_audio(out)
        assert rate == 48_000 and made[strength].shape == (1, 72_000)
    assert (made[0.5] - made[0]).norm() > 0.1 * made[0].norm()


def test_edits_know_scenes_and_prompts_by_time(tmp_path, capsys):
    """2.4 s of sound; what is held stays, and a scene has its own prompt."""
    video = videos.make_video(tmp_path / "clip.mp4", frames=60, rate=25)
    old = 0.1 * torch.randn(1, 48_000 * 12 // 5, generator=torch.Generator().manual_seed(0))
    media.write_audio(tmp_path / "old.wav", old, 48_000)
    made, scenes = {}, ["--scenes", "0:01.2"]
    for name, more in (("plain", []), ("scenes", scenes), ("timed", [*scenes, "--timed", "#2 a bell"])):
        where = ["--start", 0.5, "--end", 0.9, "--out", tmp_path / f"{name}.wav"]
        assert run("retake", tmp_path / "old.wav", "--video", video, *where, *more, *FAST) == 0
        made[name] = media.read_audio(tmp_path / f"{name}.wav")[0]
    assert not torch.equal(made["plain"], made["scenes"])
    assert torch.allclose(made["scenes"], made["timed"], atol=1e-5)  # the region is in the first scene
    assert all(torch.equal(new[:, 43_200:], old[:, 43_200:]) for new in made.values())


@pytest.mark.parametrize("more", [["--scenes", "0:01.2"], []])
def test_prompts_of_an_extension_hold_for_the_longer_sound(stereo, tmp_path, more):
    video = videos.make_video(tmp_path / "clip.mp4", frames=60, rate=25)
    how = ["--video", video, *more, "--timed", "0:02 a bell\n* rain", "--out", tmp_path / "longer.wav", *FAST]
    assert run("extend", stereo, "--seconds", 1, *how) == 0
    assert media.read_audio(tmp_path / "longer.wav")[0].shape == (2, 66_150 + 44_100)
    assert run("vary", stereo, "--video", video, "--scenes", "0:01.2", "--out", tmp_path / "other.wav", *FAST) == 0


def test_a_picture_that_ends_a_moment_before_the_sound_is_held(tmp_path, capsys):
    """0.48 s of difference, which is three sync segments of the sound for one of the picture."""
    video = videos.make_video(tmp_path / "short.mp4", frames=20, rate=25)
    media.write_audio(tmp_path / "old.wav", 0.1 * torch.randn(1, 48_000 * 32 // 25), 48_000)
    how = ["--video", video, "--start", 0.2, "--end", 0.6, "--out", tmp_path / "out.wav", *FAST]
    assert run("retake", tmp_path / "old.wav", *how) == 0 and "picture ends" not in capsys.readouterr().err


def test_a_loop_is_as_long_as_its_video_and_goes_on_into_itself(video, tmp_path):
    out = tmp_path / "out.mp4"
    assert run("loop", "--video", video, "--out", out, *FAST) == 0
    assert abs(media.probe(out).duration - 1.6) < 0.05
    assert run("loop", "--seconds", 1, "--out", tmp_path / "out.wav", *FAST) == 0
    sound = media.read_audio(tmp_path / "out.wav")[0][0]
    steps = (sound[1:] - sound[:-1]).abs()
    assert len(sound) == 48_000 and (sound[0] - sound[-1]).abs() <= steps.max()


@pytest.mark.parametrize("rate, frames", [(24, 48), (16, 49)])
def test_a_loop_sounds_to_the_end_of_its_picture(tmp_path, rate, frames):
    video = videos.make_video(tmp_path / "clip.mp4", frames=frames, rate=rate)
    assert run("loop", "--video", video, "--out", tmp_path / "out.mkv", *FAST) == 0
    sound = media.read_audio(tmp_path / "out.mkv")[0][0]
    assert len(sound) == 48_000 * frames // rate and int(sound.nonzero().max()) > len(sound) - 48


def test_layers_are_stems_a_mix_and_a_film_and_levels_make_nothing_anew(video, tmp_path, monkeypatch, capsys):
    file, out = tmp_path / "layers.json", tmp_path / "stems"

    def layers(gain):
        entries = [{"name": "hits", "prompt": "hammering"}, {"name": "bed", "video": False, "seconds": 1, "gain_db": gain}]
        file.write_text(json.dumps({"layers": entries}))
        return run("layers", file, "--video", video, "--out", out, "--film", tmp_path / "film.mp4", "--steps", 2)

    assert layers(0) == 0
    assert {path.name for path in out.iterdir()} == {"hits.flac", "hits.json", "bed.flac", "bed.json", "mix.flac"}
    hits, bed, mix = (media.read_audio(out / f"{name}.flac")[0] for name in ("hits", "bed", "mix"))
    bed = torch.nn.functional.pad(bed, (0, hits.shape[1] - bed.shape[1]))
    torch.testing.assert_close(mix, hits + bed, atol=1e-6, rtol=0)
    assert media.probe(tmp_path / "film.mp4").has_audio
    monkeypatch.setattr(Networks, "make", lambda *_, **__: pytest.fail("made again"))
    assert layers(-6) == 0
    assert "hits: unchanged" in capsys.readouterr().err
    torch.testing.assert_close(media.read_audio(out / "mix.flac")[0], hits + bed * 10 ** (-6 / 20), atol=1e-6, rtol=0)


@pytest.fixture
def two_layers(tmp_path):
    file = tmp_path / "layers.json"
    file.write_text(json.dumps({"layers": [{"name": "hits", "prompt": "hammering"}, {"name": "bed", "prompt": "rain"}]}))
    return file


def test_layers_of_a_video_in_scenes_are_as_generate_makes_them(tmp_path, monkeypatch):
    video = videos.make_video(tmp_path / "clip.mp4", frames=60, rate=25)
    (tmp_path / "layers.json").write_text(json.dumps({"layers": [{"name": "hits", "prompt": FAST[3]}]}))
    made = {}
    for name, scenes in (("plain", []), ("scenes", ["--scenes", "0:01.2"])):
        how = ["--video", video, *scenes, *FAST[:2]]
        assert run("layers", tmp_path / "layers.json", "--out", tmp_path / "stems", *how) == 0
        assert run("generate", "--out", tmp_path / "alone.flac", *how, *FAST[2:]) == 0
        made[name], alone = (media.read_audio(tmp_path / path)[0] for path in ("stems/hits.flac", "alone.flac"))
        assert (made[name] - alone).norm() < 0.005 * alone.norm()  # the small codec decodes in half precision
    assert (made["plain"] - made["scenes"]).norm() > 0.1 * made["plain"].norm()
    monkeypatch.setattr(Networks, "make", lambda *_, **__: pytest.fail("made again"))
    assert run("layers", tmp_path / "layers.json", "--out", tmp_path / "stems", *how) == 0


@pytest.mark.parametrize("more, message", [
    ([], "There are cuts and no video"), (["--video", "VIDEO"], "There is a cut at 0:05, and the video ends at 0:01.6"),
])
def test_layers_refuse_cuts_that_are_not_in_the_video(two_layers, video, tmp_path, capsys, more, message):
    more = [video if word == "VIDEO" else word for word in more]
    assert run("layers", two_layers, *more, "--scenes", "0:05", "--out", tmp_path / "stems") == 1
    assert message in capsys.readouterr().err and not list(tmp_path.glob("stems/*"))


def test_an_interrupt_of_layers_tells_what_stays(two_layers, tmp_path, monkeypatch, capsys):
    real = StemFolder.stem

    def interrupted(folder, layer):
        if layer.name == "bed":
            raise KeyboardInterrupt
        return real(folder, layer)

    monkeypatch.setattr(StemFolder, "stem", interrupted)
    assert run("layers", two_layers, "--out", tmp_path / "stems", "--seconds", 0.5, "--steps", 2) == 130
    assert "finished stems stay" in capsys.readouterr().err and (tmp_path / "stems" / "hits.flac").is_file()


def test_layers_want_a_folder_and_leave_their_own_list_alone(two_layers, tmp_path, capsys):
    before = two_layers.read_bytes()
    assert run("layers", two_layers, "--out", two_layers) == 1
    assert "cannot be a folder" in capsys.readouterr().err
    list_of_hits = two_layers.rename(tmp_path / "hits.json")
    assert run("layers", list_of_hits, "--out", tmp_path) == 1
    assert "Rename the layer `hits`" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_takes_lie_beside_each_other_and_each_can_be_made_alone(tmp_path):
    how = ["generate", "--seconds", 0.5, "--seed", 7, "--out", tmp_path / "x.wav", *FAST]
    assert run(*how, "--takes", 3) == 0
    names = [f"x_seed7_take{take}.wav" for take in range(3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    takes = [media.read_audio(tmp_path / name)[0] for name in names]
    assert run(*how, "--take", 2) == 0
    alone = media.read_audio(tmp_path / "x.wav")[0]
    assert (alone - takes[2]).norm() < 0.005 * alone.norm()  # the small codec decodes in half precision
    assert (alone - takes[0]).norm() > 0.1 * alone.norm()


@pytest.mark.parametrize("words, message", [
    (["generate", "--takes", 0], "0 takes from take 0"),
    (["generate", "--take", -1], "1 takes from take -1"),
    (["retake", "SOUND", "--start", 1, "--end", 2], "the sound is 1.500 s long"),
    (["retake", "SOUND", "--start", 1, "--end", 0.5], "from 1 s to 0.5 s"),
    (["retake", "VIDEO", "--start", 0, "--end", 1], "has no sound"),
    (["retake", "nowhere.wav", "--start", 0, "--end", 1], "nowhere.wav"),
    (["retake", "SOUND", "--start", 0, "--end", 1, "--video", "nowhere.mp4"], "nowhere.mp4"),
    (["extend", "SOUND", "--seconds", 0], "go on for 0 s"),
    (["vary", "SOUND", "--strength", 2], "strength is 2.0"),
    (["vary", "SOUND", "--timed", "0:02 a bell"], "the prompt begins at 0:02, and the clip ends at 0:01.5"),
    (["vary", "SOUND", "--scenes", "0:01"], "There are cuts and no video"),
    (["loop", "--seconds", 0.1], "loop is to be 0.1 s long"),
    (["loop", "--seconds", "inf"], "loop is to be inf s long"),
    (["generate", "--seconds", 0.01], "The sound is to be 0.01 s long"),
    (["generate", "--seconds", "nan"], "The sound is to be nan s long"),
    (["generate", "--seed", 2**64], "The seed is 18446744073709551616"),
    (["vary", "SOUND", "--device", "nowhere"], "The device is 'nowhere'"),
    pytest.param(["loop", "--device", "cuda"], "The device is 'cuda'", marks=without_gpu),
])
def test_mistakes_give_one_paragraph_and_write_nothing(stereo, video, tmp_path, capsys, words, message):
    words = [{"SOUND": stereo, "VIDEO": video}.get(word, word) for word in words]
    assert run(*words, "--out", tmp_path / "out.wav", *FAST) == 1
    assert message in capsys.readouterr().err.strip().splitlines()[-1] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words, message", [
    (["vary", "SOUND", "--out", "HERE/out.mp4", *FAST], "Without a picture it has to be a .wav or .flac"),
    (["vary", "SOUND", "--out", "HERE/none/out.wav", *FAST], "There is no folder"),
    (["layers", "HERE/none.json", "--out", "HERE/stems"], "cannot be read"),
    (["generate", "--rate", 300_000, "--out", "HERE/out.wav"], "The output rate is 300000 Hz"),
])
def test_what_cannot_be_written_or_read_is_said_first(stereo, tmp_path, capsys, words, message):
    assert run(*(str(word).replace("HERE", str(tmp_path)).replace("SOUND", str(stereo)) for word in words)) == 1
    assert message in capsys.readouterr().err and list(tmp_path.iterdir()) == []
