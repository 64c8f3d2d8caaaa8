"""Layers: their file, their mix, and that only what changed is made again."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hunyuan_foley_core import media
from hunyuan_foley_core.errors import InputError, MediaError
from hunyuan_foley_core.layers import Layer, StemFolder, digest, mix, read_layers
from hunyuan_foley_core.pipeline import ModelFiles, Settings


class CountedNetworks:
    """Makes noise, and remembers of what."""

    def __init__(self, files, settings=Settings()):
        self.files, self.settings, self.made, self.watched = files, settings, [], 0

    def watch(self, video, start, seconds, report, *, cuts):
        self.watched += 1
        return SimpleNamespace(seconds=0.4, cuts=cuts)

    def make(self, prompt, negative_prompt, features, frames, *, seed, stage):
        self.made.append((prompt, features is not None, frames))
        return torch.randn(1, 960, frames, generator=torch.Generator().manual_seed(seed)) * 0.1

    def decode(self, latents):
        return latents.mT.reshape(1, 1, -1)


@pytest.fixture
def files(tmp_path):
    paths = {name: tmp_path / name for name in ("transformer", "vae", "clap")}
    for path in paths.values():
        path.write_bytes(path.name.encode())
    return ModelFiles(**paths)


@pytest.fixture
def out(tmp_path):
    (tmp_path / "stems").mkdir()
    return tmp_path / "stems"


HIT, RAIN = Layer("hit", "a hit", seed=1), Layer("rain", "rain", video=False, seed=2)


def make(out, networks, *layers, seconds=0.5):
    folder = StemFolder(out, networks, None, seconds, media.DecodeReport())
    folder.check(layers)
    return [folder.stem(layer) for layer in layers]


def test_a_stem_is_made_once(out, files):
    networks = CountedNetworks(files)
    first = make(out, networks, HIT, RAIN)
    assert [stem.is_new for stem in first] == [True, True] and networks.made[1] == ("rain", False, 25)
    again = CountedNetworks(files)
    second = make(out, again, HIT, RAIN)
    assert again.made == [] and not any(stem.is_new for stem in second)
    assert all(torch.equal(old.waveform, new.waveform) for old, new in zip(first, second))
    assert {path.name for path in out.iterdir()} == {"hit.flac", "hit.json", "rain.flac", "rain.json"}


@pytest.mark.parametrize("change, made", [
    ({"gain_db": -6.0}, []), ({"mute": True}, []),
    ({"prompt": "drops"}, ["drops"]), ({"seed": 3}, ["rain"]), ({"negative": "wind"}, ["rain"]), ({"seconds": 0.3}, ["rain"]),
])
def test_a_change_of_one_layer_makes_that_layer_alone(out, files, change, made):
    make(out, CountedNetworks(files), HIT, RAIN)
    networks = CountedNetworks(files)
    make(out, networks, HIT, replace(RAIN, **change))
    assert [prompt for prompt, *_ in networks.made] == made


def test_other_settings_lengths_and_weights_make_all_again(out, files):
    def made(networks, **how):
        make(out, networks, HIT, RAIN, **how)
        return len(networks.made)

    assert made(CountedNetworks(files)) == 2
    assert made(CountedNetworks(files, Settings(steps=7))) == 2
    assert made(CountedNetworks(files, Settings(steps=7)), seconds=0.6) == 2
    files.transformer.write_bytes(b"trained on")
    assert made(CountedNetworks(files, Settings(steps=7)), seconds=0.6) == 2
    assert made(CountedNetworks(files, Settings(steps=7)), seconds=0.6) == 0


def test_what_was_lost_or_damaged_is_made_again_and_what_was_edited_stays(out, files):
    make(out, CountedNetworks(files), HIT, RAIN)
    (out / "hit.flac").unlink()
    (out / "rain.flac").unlink()
    (out / "rain.json").unlink()
    networks = CountedNetworks(files)
    make(out, networks, HIT, RAIN)
    assert len(networks.made) == 2
    media.write_audio(out / "rain.flac", torch.full((1, 100), 0.5), 48_000)
    (stem,) = make(out, CountedNetworks(files), RAIN)
    assert not stem.is_new and stem.waveform.shape == (1, 100)


@pytest.mark.parametrize("files_there, message", [
    ({"rain.json": '{"layers": [{"name": "rain"}]}'}, "rain.json is there and does not say .* Rename the layer `rain`"),
    ({"rain.flac": "a sound", "rain.json": '{"layer":'}, "rain.json is there and does not say"),
    ({"rain.flac": "a sound"}, "rain.flac is there, and nothing beside it"),
    ({"mix.flac": "a sound", "other.json": "[1]"}, "mix.flac is there, and no stem"),
])
def test_what_was_not_made_here_is_refused_before_anything_is_made(out, files, files_there, message):
    for name, content in files_there.items():
        (out / name).write_text(content)
    networks = CountedNetworks(files)
    with pytest.raises(InputError, match=message):
        make(out, networks, HIT, RAIN)
    assert networks.made == [] and {path.name: path.read_text() for path in out.iterdir()} == files_there


def test_an_interrupted_stem_leaves_nothing_that_looks_finished(out, files, monkeypatch):
    make(out, CountedNetworks(files), RAIN)

    def full(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(media, "write_audio", full)
    with pytest.raises(KeyboardInterrupt):
        make(out, CountedNetworks(files), replace(RAIN, seed=9))
    monkeypatch.undo()
    networks = CountedNetworks(files)
    make(out, networks, RAIN)
    assert len(networks.made) == 1  # the old sound is not taken for the new one's, nor for one of somebody else


def test_a_full_disk_is_said_and_loses_no_stem_that_is_finished(out, files, monkeypatch):
    make(out, CountedNetworks(files), HIT, RAIN)
    before = (out / "rain.flac").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(MediaError, match="rain.json could not be written .No space left on device"):
        make(out, CountedNetworks(files), HIT, replace(RAIN, seed=9))
    assert (out / "rain.flac").read_bytes() == before
    assert {path.suffix for path in out.iterdir()} == {".flac", ".json"}


@pytest.mark.parametrize("seconds", [0.0, 0.01, -1.0, float("nan"), float("inf")])
def test_lengths_that_are_none_are_refused(out, files, seconds):
    with pytest.raises(InputError, match="s long"):
        make(out, CountedNetworks(files), HIT, seconds=seconds)


def test_the_picture_is_watched_once_and_only_if_something_is_made(out, files, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"clip")
    for expected, layers in ((1, (HIT, RAIN)), (0, (HIT, replace(RAIN, gain_db=3.0)))):
        networks = CountedNetworks(files)
        folder = StemFolder(out, networks, tmp_path / "clip.mp4", None, media.DecodeReport())
        for layer in layers:
            folder.stem(layer)
        assert networks.watched == expected


def test_large_files_are_told_apart_by_size_and_places(tmp_path):
    path = tmp_path / "weights"
    with open(path, "wb") as file:
        file.truncate(65 << 20)
    before = digest(path)
    with open(path, "r+b") as file:
        file.seek(-1, 2)
        file.write(b"1")
    changed = digest(path)
    with open(path, "ab") as file:
        file.write(b"2")
    assert len({before, changed, digest(path)}) == 3


# The mix.


def test_stems_add_up_to_the_mix_with_silence_after_the_shorter():
    long, short, loud = torch.randn(1, 480), torch.randn(2, 240), torch.randn(1, 480)
    mixed, stems, rate = mix([long, short, loud], [48_000] * 3, [0.0, -6.0, 60.0], [False, False, True])
    assert rate == 48_000 and stems.shape == (3, 2, 480)
    torch.testing.assert_close(stems.sum(dim=0), mixed)
    assert torch.equal(stems[0], long.expand(2, -1)) and not stems[2].any() and not stems[1, :, 240:].any()
    torch.testing.assert_close(stems[1, :, :240], short * 10 ** (-6 / 20))


def test_layers_of_other_rates_come_to_the_highest():
    mixed, stems, rate = mix([torch.randn(2, 44_100), torch.randn(1, 48_000)], [44_100, 48_000], [0, 0], [False, False])
    assert rate == 48_000 and mixed.shape == (2, 48_000)


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(InputError, match="No layer"):
        mix([], [], [], [])
    with pytest.raises(InputError, match="2, 6 channels"):
        mix([torch.zeros(2, 9), torch.zeros(6, 9)], [48_000] * 2, [0, 0], [False, False])


# The file.


def read(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "layers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding=encoding)
    return read_layers(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_layers(tmp_path, encoding):
    entries = [{"name": "hit", "prompt": "a hit", "seed": 1}, {"prompt": "rain", "gain_db": -6}]
    layers = read(tmp_path, {"layers": entries}, encoding)
    assert layers == [HIT, Layer("layer 2", "rain", gain_db=-6.0)]


@pytest.mark.parametrize("content, message", [
    ('{"layers": [', "cannot be read.*line 1 column 13"),
    ([], "no list `layers`"),
    ({"layers": []}, "0 layers"),
    ({"layers": [{}] * 9}, "9 layers. Expected 1 to 8"),
    ({"layers": ["rain"]}, "Layer 1 is 'rain'"),
    ({"layers": [{"promt": "x"}]}, "Did you mean `prompt`"),
    ({"layers": [{"colour": 1}]}, "Known are name, prompt"),
    ({"layers": [{"seed": 1.5}]}, "`seed` of layer 1 is 1.5. Expected a whole number"),
    ({"layers": [{"mute": 1}]}, "`mute` of layer 1 is 1. Expected true or false"),
    ({"layers": [{"gain_db": True}]}, "Expected a number"),
    ({"layers": [{"gain_db": 70}]}, "gain of `layer 1` is 70.0 dB"),
    ('{"layers": [{"gain_db": NaN}]}', "gain of `layer 1` is nan dB"),
    ({"layers": [{"name": "a/b"}]}, "called `a/b`"),
    ({"layers": [{"name": "../x"}]}, "called"),
    ({"layers": [{"name": "Mix"}]}, "`mix` too many"),
    ({"layers": [{"name": "a"}, {"name": "A"}]}, "`a` too many"),
    ({"layers": [{"seconds": 2.0}]}, '"video": false'),
    ({"layers": [{"seconds": -2.0, "video": False}]}, "-2.0 s long"),
    ({"layers": [{"seconds": 0.01, "video": False}]}, "0.01 s long"),
    ({"layers": [{"seed": 2**64}]}, "seed is 18446744073709551616"),
])
def test_a_file_that_is_wrong_says_where(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read(tmp_path, content)


def test_a_missing_file_of_layers(tmp_path):
    with pytest.raises(InputError, match=r"nowhere.json \(.*No such file"):
        read_layers(tmp_path / "nowhere.json")
