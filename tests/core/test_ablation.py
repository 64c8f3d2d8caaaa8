"""The ablation: each variant differs from the full model in what its name says, runs once, and is told apart honestly."""

import json
from dataclasses import replace

import pytest
import small_weights
import torch

from hunyuan_foley_core import checkpoint
from hunyuan_foley_core.evaluation import ablation, exam, variants
from hunyuan_foley_core.evaluation.rows import Bench
from hunyuan_foley_core.evaluation.rows import Plan as Lessons
from hunyuan_foley_core.evaluation.takes import first
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.train import loop
from hunyuan_foley_core.train.clips import vae_digest
from hunyuan_foley_core.train.config import build, read_settings
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.features import FeatureSizes
from hunyuan_foley_core.train.flow import FlowConfig, initialise
from hunyuan_foley_core.train.shards import Record, ShardWriter, create_cache

WIDTH, CHANNELS, FRAMES, TEACHER = 16, 128, 50, 8
SHAPES = {
    "mean": (CHANNELS, FRAMES), "logvar": (CHANNELS, FRAMES), "visual": (8, WIDTH), "sync": (16, WIDTH),
    "text": (4, WIDTH), "teacher": (25, TEACHER),
}
SMALL = [
    f"model.latent_channels={CHANNELS}", "model.hidden_size=32", "model.num_multimodal_blocks=1",
    "model.num_unimodal_blocks=2", "model.mlp_hidden=64", "model.conv_mlp_hidden=64", "model.sync_mlp_hidden=32",
    f"model.text_dim={WIDTH}", f"model.visual_dim={WIDTH}", f"model.sync_dim={WIDTH}", "model.time_frequencies=32",
    "data.held_out=2", "data.batch=2", "data.seconds=[]", "repa.width=8", "loop.steps=2", "loop.warmup_steps=0",
    "loop.save_every=1",
]


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "vae.pth"
    torch.save(small_weights.vae(torch.Generator().manual_seed(0)), path)
    return checkpoint.load_vae(path)


@pytest.fixture(scope="module")
def settings(tmp_path_factory, vae):
    """Words for a tiny run from a cache of random features."""
    folder = tmp_path_factory.mktemp("cache")
    generator = torch.Generator().manual_seed(0)
    create_cache(folder, {"vae": vae_digest(vae)}, torch.randn(2, WIDTH, generator=generator).half())
    writer = ShardWriter(folder, 8)
    for number in range(6):
        tensors = {name: torch.randn(shape, generator=generator).half() for name, shape in SHAPES.items()}
        shapes = {name: list(shape) for name, shape in SHAPES.items()}
        record = Record(f"video {number}#0", "state", f"clip {number}", "a caption", 0.0, 8000.0, 3, shapes)
        writer.add(record, tensors)
        writer.finish(f"video {number}#0", "state")
    writer.flush()
    return [*SMALL, f"data.cache={folder}"]


@pytest.fixture(scope="module")
def paper(vae):
    """Two clips of a second as a small transformer gets them, without the encoders."""
    clips = [take.clip() for take in first(2, seconds=1.0, where=lambda clip: bool(clip.events))]
    drawn = {name: torch.randn(2, *SHAPES[name]) for name in ("text", "visual", "sync")}
    classifier = Bench(None, Lessons(lessons=15)).classifier
    questions = exam.Questions(clips, 50, drawn["text"], drawn["text"][:1], drawn["visual"], drawn["sync"])
    return exam.Exam(questions, vae, classifier, 2)


@pytest.fixture
def full(settings):
    return build(FlowConfig, read_settings(ablation.CONFIGS / "tiny.toml", settings))


def assembled(name, full, seed=0):
    config = ablation.configured(variants.VARIANTS[name], full, seed, full.out)
    return ablation.assembled(variants.VARIANTS[name], config, FeatureSizes(CHANNELS, WIDTH, WIDTH, WIDTH, TEACHER))


def batch(generator):
    drawn = {name: torch.randn(2, *shape, generator=generator) for name, shape in SHAPES.items()}
    return drawn | {"empty_text": torch.randn(1, *SHAPES["text"], generator=generator), "names": ["a", "b"]}


def velocity(transformer, sync=None):
    """Of a transformer whose gates are open, so that every part shows in it."""
    generator = torch.Generator().manual_seed(1)
    for parameter in transformer.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    given = batch(torch.Generator().manual_seed(2))
    sync = given["sync"] if sync is None else sync
    conditions = {"text": given["text"], "visual": given["visual"], "sync": sync}
    return transformer(given["mean"], torch.tensor([500.0, 500.0]), **conditions)


@torch.no_grad()
def test_without_sync_features_nothing_of_them_is_heard(full):
    given = batch(torch.Generator().manual_seed(2))["sync"]
    deaf, hearing = assembled("no_sync", full).transformer, assembled("full", full).transformer
    assert velocity(deaf).equal(velocity(deaf, given * 2)) and not velocity(hearing).equal(velocity(hearing, given * 2))
    torch.testing.assert_close(velocity(deaf), velocity(hearing, hearing.empty_sync(16).expand(2, -1, -1)))


@torch.no_grad()
def test_without_interleaving_only_the_joint_positions_change(full):
    plain, interleaved = assembled("no_interleaving", full).transformer, assembled("full", full).transformer
    ours, theirs = plain.rotations(8, 50, "cpu"), interleaved.rotations(8, 50, "cpu")
    assert ours.joint.cos.equal(theirs.cross.cos) and ours.audio.cos.equal(theirs.audio.cos)
    assert ours.joint.cos.shape == theirs.joint.cos.shape and not ours.joint.cos.equal(theirs.joint.cos)
    assert not velocity(plain).equal(velocity(interleaved))


def test_without_unimodal_blocks_the_size_stays(full):
    config = variants.without_unimodal(full)
    assert config.model.num_unimodal_blocks == 0 and config.model.num_multimodal_blocks > full.model.num_multimodal_blocks
    block = variants.parameters(replace(full.model, num_multimodal_blocks=2)) - variants.parameters(full.model)
    assert abs(variants.parameters(config.model) - variants.parameters(full.model)) <= block / 2
    tiny = build(FlowConfig, read_settings(ablation.CONFIGS / "tiny.toml"))
    assert variants.without_unimodal(tiny).model.num_multimodal_blocks == 6
    assert variants.without_unimodal(tiny).repa.block == 3


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_variant_learns_all_it_has(full, name):
    """Gradients reach every parameter of transformer and projector, but those that are never used."""
    objective, generator = assembled(name, full), torch.Generator().manual_seed(4)
    for parameter in objective.transformer.parameters():  # open the gates that begin at zero
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    ((_, loss, parts),) = objective.losses(batch(torch.Generator().manual_seed(0)), 0, loop.seeded(3))
    loss.backward()
    silent = {key for key, p in objective.phases[0].parameters.items() if p.grad is None or not p.grad.abs().sum()}
    last = f"triple_blocks.{len(objective.transformer.triple_blocks) - 1}."
    allowed = {"empty_clip_feat", "empty_sync_feat"}
    unused = (last + "v_cond", "final_layer.adaLN_modulation")  # in the released design too
    assert {key for key in silent - allowed if not key.startswith(unused)} == set()
    assert ("repa" in parts) == (name != "no_repa")


def test_dropout_is_drawn_in_all_but_one(full):
    for name in variants.VARIANTS:
        objective, given = assembled(name, full), batch(torch.Generator().manual_seed(0))
        drops = [not objective._dropped(given, loop.seeded(number))["text"].equal(given["text"]) for number in range(40)]
        assert any(drops) == (name != "no_dropout")


def test_a_seed_begins_with_the_same_weights(full):
    plain = FoleyTransformer(full.model)
    initialise(plain, loop.seeded(0, ablation.WEIGHTS_STREAM))
    expected = plain.state_dict()

    def same(*of):
        weights = assembled(*of).transformer.state_dict()
        return all(weights[key].equal(expected[key]) for key in expected)

    assert same("full", full) and same("no_repa", full) and not same("full", full, 1)


@pytest.fixture
def at_once(monkeypatch, paper):
    monkeypatch.setattr(ablation, "_exam", lambda models, plan: paper)
    monkeypatch.setattr(ablation, "VALIDATION_BATCHES", 1)


def test_runs_are_kept_and_gathered(settings, tmp_path, at_once, monkeypatch):
    words, told = [*settings, f"out={tmp_path}"], []
    plan = ablation.Plan(("full", "no_unimodal", "no_dropout"), seeds=2, clips=2, seconds=1.0, steps=2)
    stopped = iter(range(4))
    measure = ablation.measure

    def interrupted(*of):
        if next(stopped, None) is None:
            raise KeyboardInterrupt
        return measure(*of)

    monkeypatch.setattr(ablation, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablation.run("tiny", words, tmp_path, plan)
    kept = sorted(path.parent.name for path in tmp_path.glob("*/result.json"))
    assert kept == ["full-0", "full-1", "no_dropout-0", "no_unimodal-0"]
    monkeypatch.setattr(ablation, "measure", measure)
    text = ablation.run("tiny", words, tmp_path, plan, tell=told.append)
    assert len(told) == 2 and text == (tmp_path / "ablation.md").read_text()
    runs = json.loads((tmp_path / "ablation.json").read_text())["runs"]
    assert set(runs) == {"full", "no_unimodal", "no_dropout", "no_dropout_unguided"}
    assert all(len(of) == 2 for of in runs.values())
    assert runs["full"][0]["flow"] != runs["full"][1]["flow"] and text.count("+- ") >= 16
    with pytest.raises(TrainingError, match="loop.steps from 2 to 3"):
        ablation.run("tiny", [*words, "loop.steps=3"], tmp_path, plan)


def test_a_cache_without_a_teacher_is_named(full):
    with pytest.raises(TrainingError, match="no features of a teacher"):
        ablation.assembled(variants.VARIANTS["full"], full, FeatureSizes(CHANNELS, WIDTH, WIDTH, WIDTH, None))


def runs_of(*values):
    return [{"f1": value, "parameters": 1e6, "seconds": 60.0} for value in values]


@pytest.mark.parametrize("values, expected", [
    ((0.5, 0.6, 0.7), "0.600 +- 0.100 *"), ((0.8, 0.85, 0.95), "0.867 +- 0.076"), ((0.5,), "0.500"),
])
def test_a_star_marks_what_is_apart(values, expected):
    assert ablation.cell(runs_of(*values), runs_of(0.85, 0.9, 0.95), "f1") == expected
