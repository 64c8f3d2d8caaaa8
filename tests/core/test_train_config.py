"""Settings from files and arguments, and what is said when they do not fit."""

import json
import sys
from types import SimpleNamespace

import pytest

from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.train.command import CONFIGS
from hunyuan_foley_core.train.config import LoopConfig, OptimiserConfig, build, differences, read_settings
from hunyuan_foley_core.train.dac_vae import CodecConfig
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.flow import FlowConfig

from .parity import MANIFESTS

TEXT = """
name = "a # b"  # a comment
[optimiser]
learning_rate = 1e-3
matrix_rate = 0
betas = [0.8, 0.99]   # two of them
weight_decay = 0
clip = 1.0
[deep.er]
flag = true
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(TEXT)
    return path


def test_sections_values_and_comments(file):
    file.write_text(TEXT.lstrip(), encoding="utf-8-sig")  # as Notepad on Windows writes it
    settings = read_settings(file)
    assert settings["name"] == "a # b" and settings["deep"] == {"er": {"flag": True}}
    assert build(OptimiserConfig, settings["optimiser"]) == OptimiserConfig(1e-3, 0.0, (0.8, 0.99), 0.0, 1.0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_files_are_toml_and_read_alike(path):
    import tomllib

    assert read_settings(path) == tomllib.loads(path.read_text())


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("dac_vae*.toml")), ids=lambda path: path.stem)
def test_shipped_codecs_are_whole_and_of_the_latent_rate(path):
    config = build(CodecConfig, read_settings(path))
    assert config.model.hop == 960 and sorted(config.model.encoder_rates) == sorted(config.model.decoder_rates)


def test_the_full_size_is_the_released_one():
    config = build(FlowConfig, read_settings(CONFIGS / "full_xxl.toml"))
    shapes = json.loads((MANIFESTS / "hunyuanvideo_foley_xxl.json").read_text())
    released = {name: SimpleNamespace(shape=shape) for name, shape in shapes.items()}
    assert config.model == TransformerConfig.from_state_dict(released)
    assert config.data.batch * config.loop.accumulate == 2048


def test_arguments_lie_over_the_file(file):
    words = ["optimiser.clip=0.5", "name=rain", "deep.er.flag=false", "optimiser.betas=[0.9, 0.95]"]
    settings = read_settings(file, words)
    assert settings["optimiser"]["clip"] == 0.5 and settings["name"] == "rain"
    assert settings["deep"]["er"]["flag"] is False and settings["optimiser"]["betas"] == [0.9, 0.95]


@pytest.mark.parametrize("word, message", [
    ("optimiser.clap=1", "`optimiser.clap`.*mean `optimiser.clip`"),
    ("nonsense", "`nonsense`.*key = value"),
    ("name.inner=1", "`name` is a value"),
])
def test_wrong_arguments(file, word, message):
    with pytest.raises(TrainingError, match=message):
        read_settings(file, [word])


@pytest.mark.parametrize("line", ["clip", "clip = ", "clip = one", "clip = 1 2", "= 3"])
def test_wrong_lines_are_numbered(tmp_path, line):
    path = tmp_path / "run.toml"
    path.write_text(f"# first\n{line}\n")
    with pytest.raises(TrainingError, match="Line 2 of run.toml"):
        read_settings(path)


BACKSLASHES = [r'"D:\models\x.pth"', r'"C:\foley\new"', '"C:\\foley\\"', r'"\\\\nas\foley"']


@pytest.mark.parametrize("value", [*BACKSLASHES, r'["C:\new"]'])
def test_a_path_as_windows_writes_it_is_no_special_character(file, value):
    file.write_text(f"start = {value}  # \\ here is nothing\n")
    with pytest.raises(TrainingError, match=r"Line 1 of run.toml gives `start`.*with a backslash.*write / or \\\\ in place"):
        read_settings(file)


@pytest.mark.parametrize("value", BACKSLASHES)
def test_quoted_words_of_the_command_line_are_read_alike(file, value):
    file.write_text('start = ""\n')
    with pytest.raises(TrainingError, match="An argument gives `start`.*with a backslash"):
        read_settings(file, [f"start={value}"])


def test_doubled_backslashes_quotes_and_unicode_are_read(file):
    lines = [
        r'a = "C:\\foley\\new"', r'b = "C:/foley/new"',
        r'c = "\\\\nas\\x"', r'd = "a \"b\""', r'e = "\u00fc"', 'f = 1  # C:\\new',
    ]
    file.write_text("\n".join(lines))
    expected = {"a": r"C:\foley\new", "b": "C:/foley/new", "c": r"\\nas\x", "d": 'a "b"', "e": "\u00fc", "f": 1}
    assert read_settings(file) == expected
    assert read_settings(file, [r"a=D:\foley\new"])["a"] == r"D:\foley\new"  # as a shell hands it over, without quotes


def test_files_as_editors_of_windows_save_them(file):
    expected = read_settings(file)
    file.write_text(TEXT, encoding="utf-8-sig", newline="\r\n")
    assert read_settings(file) == expected
    file.write_text(TEXT, encoding="utf-16")
    with pytest.raises(TrainingError, match="run.toml cannot be read.*Save it as UTF-8"):
        read_settings(file)


def test_a_missing_file(tmp_path):
    with pytest.raises(TrainingError, match="no file"):
        read_settings(tmp_path / "run.toml")


@pytest.mark.parametrize("change, message", [
    ({"clip": "much"}, "`o.clip` is 'much'.*float"),
    ({"clip": True}, "`o.clip` is True.*float"),
    ({"betas": 0.9}, "`o.betas` is 0.9.*list"),
    ({"betas": [0.9, "x"]}, "`o.betas` is 'x'.*float"),
    ({"betas": [0.9]}, "betas is .0.9.*two numbers"),
    ({"learning_rate": -1e-4}, "optimiser.learning_rate is -0.0001.*0 or more"),
    ({"learning_rate": float("nan")}, "optimiser.learning_rate is nan"),
    ({"matrix_rate": -1}, "optimiser.matrix_rate is -1"),
    ({"weight_decay": -0.1}, "optimiser.weight_decay is -0.1"),
    ({"momentum": 0.9}, "no setting `o.momentum`"),
])
def test_values_that_do_not_fit(file, change, message):
    with pytest.raises(TrainingError, match=message):
        build(OptimiserConfig, read_settings(file)["optimiser"] | change, "o.")


def test_all_missing_settings_are_named():
    with pytest.raises(TrainingError, match="lacks matrix_rate, betas, weight_decay, clip"):
        build(OptimiserConfig, {"learning_rate": 0.1})


@pytest.mark.parametrize("name, value", [
    ("steps", 0), ("schedule", "linear"), ("ema", 1.0), ("keep", 0), ("seed", -1), ("validation_batches", 0),
])
def test_impossible_loops_are_refused(name, value):
    settings = read_settings(CONFIGS / "dac_vae_tiny.toml")["loop"]
    with pytest.raises(TrainingError, match=f"loop.{name} is '?{value}"):
        build(LoopConfig, settings | {name: value})


def test_differences_are_named_with_both_values():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}, "gone": 5}, {"a": 1, "b": {"c": 4, "d": 3}, "more": 6}
    assert differences(old, new) == {"b.c": (2, 4), "gone": (5, None), "more": (None, 6)}
