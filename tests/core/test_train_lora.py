"""Training a LoRA, from clips to the file that ComfyUI loads, on small random weights."""

import dataclasses
import json
import shutil

import pytest
import small_weights
import torch
from safetensors.torch import load_file

from hunyuan_foley_core import checkpoint, lora
from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.train import checkpoints, command
from hunyuan_foley_core.train.config import build, read_settings
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.log import read
from hunyuan_foley_core.train.lora_task import LoRARunConfig, load_base
from hunyuan_foley_core.train.shards import Record, ShardWriter, create_cache, open_cache, open_shard
from tests.core import pretended_run

WIDTH, FRAMES = 128, 50


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache of five clips of random numbers, as wide as the small weights."""
    folder, generator = tmp_path_factory.mktemp("cache"), torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    create_cache(folder, {}, normal(3, WIDTH))
    writer = ShardWriter(folder, 8)
    for number in range(5):
        tensors = {"mean": normal(WIDTH, FRAMES), "logvar": normal(WIDTH, FRAMES) - 4, "visual": normal(8, WIDTH),
                   "sync": normal(16, WIDTH), "text": normal(6, WIDTH)}
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        writer.add(Record(f"clip {number}#0", "", f"clip {number}", "a knock", 0.0, 20_000.0, 5, shapes), tensors)
    writer.flush()
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A transformer's file of bf16 weights."""
    path = tmp_path_factory.mktemp("base") / "base.pth"
    state = small_weights.transformer(torch.Generator().manual_seed(0))
    torch.save({key: value.bfloat16() for key, value in state.items()}, path)
    return path


def words(cache, base, out, *more):
    return [
        "device=cpu", f"start={base}", f"out={out}", f"data.cache={cache}", "data.batch=2", "data.held_out=1",
        "preview.vae=", "precision=fp32", "lora.rank=4", "lora.alpha=4.0", "loop.steps=4", "loop.accumulate=1",
        "loop.warmup_steps=1", "loop.log_every=1", "loop.validate_every=2", "loop.validation_batches=1",
        "loop.save_every=2", "lora.save_as=fp32", *more,
    ]


def run(cache, base, out, *more, callback=None):
    """Trains as the command line does, with small settings; returns the last checkpoint's folder."""
    return command.run("lora_xxl", words(cache, base, out, *more), callback)


def test_the_shipped_configuration_is_whole():
    config = build(LoRARunConfig, read_settings(command.CONFIGS / "lora_xxl.toml"))
    assert config.data.batch * config.loop.accumulate == 8
    assert config.loop.keep * config.loop.save_every >= config.loop.steps


def losses(out):
    return [line["transformer.loss"] for line in read(out / "metrics.jsonl") if "transformer.loss" in line]


@pytest.fixture(scope="module")
def trained(cache, base, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    return out, run(cache, base, out)


def test_what_comes_out_is_a_lora_for_the_base(trained, base, caplog):
    _, last = trained
    model = checkpoint.load_transformer(base, dtype=torch.float32)
    state = lora.load(last / "weights.safetensors", model)
    assert not caplog.records
    assert all(value.any() for key, value in state.items() if key.endswith("lora_B.weight") and "single_blocks" in key)
    before = model.single_blocks[1].linear1.weight.clone()
    lora.merge(model, state)
    assert not torch.equal(model.single_blocks[1].linear1.weight, before)
    _, metadata = lora.read(last / "weights.safetensors")
    assert json.loads(metadata["training"])["objective"]["visual_dropout"] == 0.4
    assert json.loads(metadata["base"])["hidden_size"] == 128
    assert json.loads(metadata["training"])["start"] == base.name and str(base.parent.parent) not in str(metadata)


def test_it_learns_its_clips(cache, base, tmp_path):
    run(cache, base, tmp_path, "loop.steps=20", "optimiser.learning_rate=5e-3", "loop.save_every=20", "data.held_out=0")
    recorded = losses(tmp_path)
    assert sum(recorded[-5:]) < 0.95 * sum(recorded[:5])


@pytest.mark.parametrize("storage", ["as in the file", "fp8_e4m3fn"])
def test_another_device_learns_the_same(cache, base, tmp_path, storage):
    run(cache, base, tmp_path / "here", f"storage={storage}")
    pretended_run.train("lora_xxl", words(cache, base, tmp_path / "there", f"storage={storage}"))
    assert losses(tmp_path / "there") == pytest.approx(losses(tmp_path / "here"), rel=1e-4)


def test_a_stopped_run_goes_on_as_if_it_had_not(trained, cache, base, tmp_path):
    class Cancelled(Exception):
        pass

    def cancel(done, of, figures):
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(cache, base, tmp_path, callback=cancel)
    last = run(cache, base, tmp_path)
    assert losses(tmp_path) == pytest.approx(losses(trained[0]), abs=1e-6)
    ours, expected = (load_file(folder / "weights.safetensors") for folder in (last, trained[1]))
    for key in expected:
        torch.testing.assert_close(ours[key], expected[key], atol=1e-6, rtol=0)


def test_checkpointing_changes_memory_and_not_the_run(trained, cache, base, tmp_path):
    run(cache, base, tmp_path, "checkpointing=false", "loop.steps=2")
    assert losses(tmp_path) == pytest.approx(losses(trained[0])[:2], abs=1e-6)


def test_storage_and_precision_may_be_small(cache, base, tmp_path):
    last = run(cache, base, tmp_path, "storage=fp8_e4m3fn", "precision=bf16", "loop.steps=2", "lora.save_as=bf16")
    state = load_file(last / "weights.safetensors")
    assert {value.dtype for value in state.values() if value.ndim} == {torch.bfloat16}
    assert {value.dtype for value in state.values() if not value.ndim} == {torch.float32}
    transformer = load_base(str(base), "fp8_e4m3fn", "cpu")
    assert transformer.single_blocks[0].linear1.weight.dtype == torch.float8_e4m3fn
    assert transformer.cond_in.linear_1.weight.dtype == torch.bfloat16


def test_a_file_all_in_fp8_is_trained_on_as_it_is(base, cache, tmp_path):
    torch.save({key: value.to(torch.float8_e4m3fn) for key, value in torch.load(base).items()}, tmp_path / "fp8.pth")
    run(cache, tmp_path / "fp8.pth", tmp_path / "out", "loop.steps=2", "objective.visual_dropout=0.5")
    assert len(losses(tmp_path / "out")) == 2


def test_another_lora_in_the_same_folder_is_refused(trained, cache, base, tmp_path):
    out = shutil.copytree(trained[0], tmp_path / "copy")
    for change in ("lora.rank=8", "lora.alpha=8.0", "lora.preset=unimodal"):
        with pytest.raises(TrainingError, match=change.partition("=")[0]):
            run(cache, base, out, change)
    assert checkpoints.found(out)[-1].name == trained[1].name


def test_a_finished_run_takes_changes_only_with_more_steps(trained, cache, base, tmp_path, caplog):
    out = shutil.copytree(trained[0], tmp_path / "doors")
    run(cache, base, out)
    with pytest.raises(TrainingError, match="doors is finished after 4 updates; .*learning_rate from 0.0001 to 0.0005"):
        run(cache, base, out, "optimiser.learning_rate=5e-4")
    assert not caplog.records
    run(cache, base, out, "optimiser.learning_rate=5e-4", "loop.steps=5")
    assert "Going on after 4 updates with changed settings: loop.steps from 4 to 5; optimiser.learn" in caplog.text


def test_a_finished_run_refuses_other_clips_in_its_cache(cache, base, tmp_path):
    mine = shutil.copytree(cache, tmp_path / "mine")
    run(mine, base, tmp_path / "out", "loop.steps=1")
    run(mine, base, tmp_path / "out", "loop.steps=1")
    record, place = next(iter(open_cache(mine).clips.values()))
    with open_shard(place.shard) as shard:
        tensors = {name: shard.get_tensor(f"{place.number}.{name}") for name in record.shapes}
    writer = ShardWriter(mine, 8)
    writer.add(dataclasses.replace(record, state="of another caption"), tensors)
    writer.flush()
    with pytest.raises(TrainingError, match="is finished after 1 updates; .*: clips from '5 clips .*' to '5 clips"):
        run(mine, base, tmp_path / "out", "loop.steps=1")


def test_a_base_of_other_widths_is_refused_before_anything_runs(base, cache, tmp_path):
    sizes = TransformerConfig.from_state_dict(torch.load(base))
    other = dataclasses.replace(sizes, text_dim=96)
    state = small_weights.random_state(FoleyTransformer(other, device="meta"), torch.Generator().manual_seed(0))
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match="text_dim is 96.*has 128"):
        run(cache, tmp_path / "other.pth", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change, message", [
    ("lora.preset=everything", "lora.preset is 'everything'.*all, multimodal"),
    ("lora.rank=0", "lora.rank is 0"),
    ("lora.save_as=fp8", "lora.save_as is 'fp8'"),
    ("storage=int4", "storage is 'int4'"),
    ("preview.steps=0", "preview.steps is 0.*1 or more"),
])
def test_settings_that_mean_nothing_are_named(cache, base, tmp_path, change, message):
    with pytest.raises(TrainingError, match=message):
        run(cache, base, tmp_path, change)
