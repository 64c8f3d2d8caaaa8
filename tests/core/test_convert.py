"""Conversion: which weights become fp8, what the file says of itself, and that nothing half-made is left."""

import errno
import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hunyuan_foley_core import cli, convert, quantization, small_model, tensor_file
from hunyuan_foley_core.checkpoint import load_transformer, read_state_dict
from hunyuan_foley_core.errors import CheckpointError

from .parity import weights

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
LINEAR, CONVOLUTION = "triple_blocks.0.audio_self_proj.weight", "single_blocks.0.linear1.weight"
EMBEDDER, NORM = "time_in.mlp.0.weight", "triple_blocks.0.audio_self_q_norm.weight"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.safetensors"
    shutil.copy(weights("mmdit"), path)
    return path


@pytest.fixture
def target(tmp_path):
    return tmp_path / "target.safetensors"


def metadata(path):
    with safe_open(str(path), framework="pt") as file:
        return file.metadata()


def changed(path, **tensors):
    """A file's tensors in float32, with some of them replaced, written beside it."""
    result = path.with_name("changed.safetensors")
    save_file({key: value.float() for key, value in load_file(path).items()} | tensors, result)
    return result


def nothing_left(folder, *kept):
    return sorted(path.name for path in folder.iterdir()) == sorted(kept)


@pytest.mark.parametrize("dtype, expected", [
    ("bf16", {"bfloat16"}), ("fp16", {"float16"}), ("fp32", {"float32"}),
    ("fp8_e4m3fn", {"bfloat16", "float8_e4m3fn"}), ("fp8_e4m3fn_scaled", {"bfloat16", "float8_e4m3fn", "float32"}),
])
@pytest.mark.parametrize("kind", ["safetensors", "pth", "prefixed"])
def test_every_value_is_the_sources_in_the_new_type(source, target, dtype, expected, kind):
    tensors = load_file(source)
    if kind == "pth":
        source = source.with_suffix(".pth")
        torch.save({"state_dict": tensors}, source)
    elif kind == "prefixed":
        save_file({f"model.diffusion_model.{key}": value for key, value in tensors.items()}, source)
    convert.convert(source, target, dtype)
    written = load_file(target)
    assert {str(value.dtype).removeprefix("torch.") for value in written.values()} == expected
    for key, value in tensors.items():
        scale = written.get(key.removesuffix(".weight") + ".weight_scale")
        if scale is None:
            assert torch.equal(written[key].float(), value.to(written[key].dtype).float()), key
        else:
            assert float(scale) == pytest.approx(float(value.float().abs().max()) / 448)
            assert torch.equal(written[key].float(), (value.float() / scale).to(E4M3).float()), key
    load_transformer(target)


@pytest.mark.parametrize("dtype, linear, convolution", [
    ("fp8_e4m3fn", E4M3, E4M3), ("fp8_e4m3fn_scaled", E4M3, torch.bfloat16),
])
def test_fp8_holds_the_matrices_of_the_blocks(source, target, dtype, linear, convolution):
    convert.convert(changed(source), target, dtype)
    written = load_file(target)
    assert [written[key].dtype for key in (LINEAR, CONVOLUTION, EMBEDDER, NORM)] == [
        linear, convolution, torch.bfloat16, torch.bfloat16
    ]
    scales = {key for key in written if key.endswith(".weight_scale")}
    assert len(scales) == (sum(value.dtype == E4M3 for value in written.values()) if "scaled" in dtype else 0)


def test_the_file_says_where_it_comes_from(source, target):
    convert.convert(source, target, "fp8_e4m3fn_scaled")
    found = metadata(target)
    assert found["source"] == "source.safetensors"
    assert found["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert json.loads(found["conversion"]) == {"format_version": 1, "dtype": "fp8_e4m3fn_scaled"}
    assert found["model"] == "HunyuanVideo-Foley transformer" and json.loads(found["config"]) == read_state_dict(source)[1]
    layers = json.loads(found["_quantization_metadata"])["layers"]
    assert {key.removesuffix(".weight_scale") for key in load_file(target) if key.endswith("_scale")} == layers.keys()
    assert {layer["format"] for layer in layers.values()} == {"float8_e4m3fn"}


def test_a_scaled_file_goes_back_to_bf16_and_copies_as_it_is(source, target, tmp_path):
    scaled, copy = tmp_path / "scaled.safetensors", tmp_path / "copy.safetensors"
    convert.convert(source, scaled, "fp8_e4m3fn_scaled")
    convert.convert(scaled, target, "bf16")
    before, after = load_file(scaled), load_file(target)
    assert {value.dtype for value in after.values()} == {torch.bfloat16} and "_quantization_metadata" not in metadata(target)
    weight = quantization.dequantize(before[LINEAR], before[LINEAR + "_scale"])
    assert torch.equal(after[LINEAR], weight.bfloat16())
    convert.convert(scaled, copy)
    expected, result = load_transformer(scaled).state_dict(), load_transformer(copy).state_dict()
    assert expected.keys() == result.keys()
    assert all(torch.equal(expected[key].float(), result[key].float()) for key in expected)


@pytest.mark.parametrize("stored", [E4M3, E5M2])
def test_fp8_is_not_rounded_twice(source, target, stored):
    fp8 = changed(source, **{LINEAR: load_file(source)[LINEAR].to(stored)})
    for dtype in ("fp8_e4m3fn", "fp8_e4m3fn_scaled"):
        with pytest.raises(CheckpointError, match="is fp8 already"):
            convert.convert(fp8, target, dtype)
    convert.convert(fp8, target)
    assert load_file(target)[LINEAR].dtype == stored
    convert.convert(fp8, target, "bf16")
    assert torch.equal(load_file(target)[LINEAR].float(), load_file(fp8)[LINEAR].float())


@pytest.mark.parametrize("dtype", ["fp8_e4m3fn", "fp8_e4m3fn_scaled"])
def test_fp8_is_for_the_transformer(target, dtype):
    with pytest.raises(CheckpointError, match="DAC-VAE.*for the transformer alone"):
        convert.convert(weights("dac_vae"), target, dtype)


@pytest.mark.parametrize("dtype, key, value, message", [
    ("fp16", EMBEDDER, 1e6, "values up to 1e\\+06 in `time_in.mlp.0.weight`.*up to 65504"),
    ("fp8_e4m3fn", LINEAR, 500.0, f"values up to 500 in `{LINEAR}`.*up to 448"),
    ("fp8_e4m3fn_scaled", LINEAR, float("inf"), f"values up to inf in `{LINEAR}`"),
    ("bf16", NORM, float("nan"), f"values up to nan in `{NORM}`"),
])
def test_values_that_the_type_cannot_hold_are_named(source, target, dtype, key, value, message):
    tensor = load_file(source)[key].float()
    tensor.view(-1)[0] = value
    path = changed(source, **{key: tensor})
    with pytest.raises(CheckpointError, match=message):
        convert.convert(path, target, dtype)
    assert nothing_left(target.parent, "source.safetensors", "changed.safetensors")


def test_an_incomplete_source_is_refused(source, target):
    tensors = load_file(source)
    del tensors[EMBEDDER]
    save_file(tensors, source)
    with pytest.raises(CheckpointError, match="time_in.mlp.0.weight"):
        convert.convert(source, target, "fp8_e4m3fn")
    assert not target.exists()


def test_the_source_is_never_the_target(source):
    before, link = source.read_bytes(), source.with_name("link.safetensors")
    link.symlink_to(source)
    for same in (source, link, source.parent / "." / source.name):
        with pytest.raises(CheckpointError, match="is the source itself"):
            convert.convert(source, same, "fp16")
    assert source.read_bytes() == before


def test_targets_that_cannot_be_are_refused(source, tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        convert.convert(source, tmp_path / "missing" / "a.safetensors")
    with pytest.raises(CheckpointError, match="ending in .safetensors"):
        convert.convert(source, tmp_path / "a.pth")


def test_a_disk_without_room_is_said_before_the_work(source, target, monkeypatch):
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    monkeypatch.setattr(convert, "_sha256", lambda path: pytest.fail("worked first"))
    with pytest.raises(CheckpointError, match="no room: it has 0.0 GB free and the file takes"):
        convert.convert(source, target)
    assert nothing_left(target.parent, "source.safetensors")


def test_a_disk_that_fills_up_leaves_nothing(source, target, monkeypatch):
    target.write_text("mine")

    def full(tensor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tensor_file, "_bytes", full)
    with pytest.raises(CheckpointError, match="no room: it filled up"):
        convert.convert(source, target)
    assert target.read_text() == "mine" and nothing_left(target.parent, "source.safetensors", "target.safetensors")


def test_what_was_written_is_read_back(source, target, monkeypatch):
    write = tensor_file.write

    def write_and_damage(path, *arguments):
        checksums = write(path, *arguments)
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return checksums

    monkeypatch.setattr(tensor_file, "write", write_and_damage)
    with pytest.raises(CheckpointError, match="is not what is read back"):
        convert.convert(source, target)
    assert nothing_left(target.parent, "source.safetensors")


def test_stopping_leaves_nothing(source, target):
    def stop(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert.convert(source, target, "fp16", stop)
    assert nothing_left(target.parent, "source.safetensors")


@pytest.mark.parametrize("stem", ["x" * 243, chr(0x96e8) * 81])
def test_long_names(source, stem):
    target = source.with_name(f"{stem}.safetensors")
    convert.convert(source, target, "bf16")
    assert nothing_left(source.parent, source.name, target.name)


KILLED = """
import os, signal, sys
from hunyuan_foley_core.convert import convert
convert(*sys.argv[1:4], lambda done, total: done > total / 2 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_kill_leaves_nothing_under_the_name(source, target):
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(target), "fp16"], cwd=small_model.FOLDER.parent)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    (left,) = (path for path in target.parent.iterdir() if path != source)
    assert left.suffix == ".tmp"  # which ComfyUI does not list among models
    # Even under a proper name, what is left is no model.
    left.rename(target)
    with pytest.raises(CheckpointError, match="safetensors"):
        load_transformer(target)


# In a process of its own. Not getrusage: its peak begins with that of the process that started this one.
PEAK = """
import sys
from pathlib import Path
from hunyuan_foley_core import tensor_file
from hunyuan_foley_core.convert import convert
tensor_file.BYTES_AT_ONCE = 8 * 2**20
for source in sys.argv[2:]:
    convert(source, sys.argv[1], "fp16")
    print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
def test_memory_does_not_grow_with_the_file(target, tmp_path):
    sources = []
    for count in (4, 24):
        tensors = {f"quantizer.{index}": torch.full((2**20,), float(index)) for index in range(count)}
        tensors["post_quant_conv.weight"] = torch.zeros(8, 8, 1)
        sources += [tmp_path / f"{count}.safetensors", tmp_path / f"{count}.pth"]
        save_file(tensors, sources[-2])
        torch.save(tensors, sources[-1])
    command = [sys.executable, "-c", PEAK, str(target), *map(str, sources)]
    done = subprocess.run(command, cwd=small_model.FOLDER.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = [int(peak) / 1024 for peak in done.stdout.split()]
    assert peaks[-1] - peaks[1] < 40, peaks  # MiB; the larger files have 96


def test_the_command_line_converts(source, target, capsys):
    assert cli.main(["convert", str(source), str(target), "--dtype", "fp8_e4m3fn"]) == 0
    assert load_file(target)[LINEAR].dtype == E4M3 and str(target) in capsys.readouterr().out
    assert cli.main(["convert", str(source), str(source)]) == 1
    assert "is the source itself" in capsys.readouterr().err


def test_a_target_that_is_a_folder_is_said_before_any_work(source, target, monkeypatch):
    target.mkdir()
    monkeypatch.setattr(convert, "read_state_dict", lambda *args: pytest.fail("read"))
    with pytest.raises(CheckpointError, match="target.safetensors is a folder"):
        convert.convert(source, target)
    assert nothing_left(target.parent, source.name, target.name)
