"""The flow-matching objective and the command that trains the transformer with it."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from hunyuan_foley_core import checkpoint
from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.model.layers import torch_attention
from hunyuan_foley_core.train import command, loop
from hunyuan_foley_core.train.command import CONFIGS
from hunyuan_foley_core.train.config import OptimiserConfig, build, read_settings
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.flow import (
    FlowConfig, FlowObjective, ObjectiveConfig, PreviewConfig, RepaConfig, draw_sigmas, hidden_matrices, initialise,
)
from hunyuan_foley_core.train.log import read
from hunyuan_foley_core.train.repa import Projector
from hunyuan_foley_core.train.shards import Record, ShardWriter, create_cache
from tests.core import pretended_run

CHANNELS, WIDTH, FRAMES, TEACHER = 4, 16, 50, 6
SIZES = TransformerConfig(
    latent_channels=CHANNELS, hidden_size=16, num_heads=2, num_multimodal_blocks=1, num_unimodal_blocks=2, mlp_hidden=32,
    conv_mlp_hidden=32, sync_mlp_hidden=32, text_dim=WIDTH, visual_dim=WIDTH, sync_dim=WIDTH, sync_tokens_per_segment=8,
    time_frequencies=16,
)


def config(repa=0.0, visual_dropout=0.0, text_dropout=0.0, sample_latents=False):
    return SimpleNamespace(
        device="cpu", precision="fp32", checkpointing=False,
        objective=ObjectiveConfig("logit_normal", 1.0, sample_latents, visual_dropout, text_dropout),
        repa=RepaConfig(repa, 2, 8), preview=PreviewConfig("", 2, 4.5),
        optimiser=OptimiserConfig(1e-3, 0.0, (0.9, 0.95), 0.0, 1.0),
    )


def batch(size=3, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    return {
        "mean": normal(size, CHANNELS, FRAMES), "logvar": normal(size, CHANNELS, FRAMES) - 4, "visual": normal(size, 8, WIDTH),
        "sync": normal(size, 16, WIDTH), "text": normal(size, 5, WIDTH), "empty_text": normal(1, 5, WIDTH),
        "teacher": normal(size, FRAMES, TEACHER), "names": [f"clip {number}" for number in range(size)],
    }


class Recorder(nn.Module):
    """A transformer that remembers what it was called with and knows the answer, a constant away."""

    def __init__(self, off=0.0):
        super().__init__()
        self.visual, self.sync, self.off = nn.Parameter(torch.full((1, WIDTH), 7.0)), nn.Parameter(torch.full((1, WIDTH), 8.0)), off

    def empty_visual(self, tokens):
        return self.visual[None].expand(1, tokens, -1)

    def empty_sync(self, tokens):
        return self.sync[None].expand(1, tokens, -1)

    def forward(self, latents, timestep, *, text, visual, sync, call_block):
        self.noisy, self.timestep, self.text, self.seen, self.followed = latents, timestep, text, visual, sync
        return torch.full_like(latents, self.off) + 0 * self.visual.sum()


def only(objective, number=0, clips=None):
    ((name, loss, parts),) = objective.losses(clips or batch(), 0, loop.seeded(number))
    assert name == "transformer"
    return loss, parts


def test_the_target_is_noise_minus_data_at_a_thousand_times_the_noise_level():
    transformer, clips = Recorder(off=0.5), batch()
    loss, _ = only(FlowObjective(config(), transformer, {}), clips=clips)
    sigma = (transformer.timestep / 1000)[:, None, None]
    noise = (transformer.noisy - (1 - sigma) * clips["mean"]) / sigma
    assert loss.item() == pytest.approx((0.5 - (noise - clips["mean"])).square().mean().item(), rel=1e-4)
    assert noise.std().item() == pytest.approx(1, abs=0.1) and noise.mean().item() == pytest.approx(0, abs=0.1)


def test_latents_may_be_drawn_from_the_posterior():
    clips = batch()
    plain, drawn = (Recorder() for _ in range(2))
    clips["mean"], clips["logvar"] = 0 * clips["mean"], clips["logvar"] * 0 + 2 * torch.tensor(3.0).log()
    only(FlowObjective(config(), plain, {}), clips=clips)
    only(FlowObjective(config(sample_latents=True), drawn, {}), clips=clips)
    spread = [(model.noisy.square().mean((1, 2)) / (model.timestep / 1000).square()).sqrt() for model in (plain, drawn)]
    assert spread[0] == pytest.approx(torch.ones(3), abs=0.15)
    share = (1 - drawn.timestep / 1000) / (drawn.timestep / 1000)
    assert spread[1] == pytest.approx((1 + 9 * share**2).sqrt(), rel=0.2)


@pytest.mark.parametrize("visual, text", [(1.0, 0.0), (0.0, 1.0), (0.3, 0.1)])
def test_conditions_are_dropped_as_often_as_asked(visual, text):
    transformer, clips = Recorder(), batch(2000)
    only(FlowObjective(config(visual_dropout=visual, text_dropout=text), transformer, {}), clips=clips)
    unseen = (transformer.seen == 7).all((1, 2))
    assert torch.equal(unseen, (transformer.followed == 8).all((1, 2)))  # both kinds of picture features together
    untold = (transformer.text == clips["empty_text"]).all((1, 2))
    assert unseen.float().mean().item() == pytest.approx(visual, abs=0.03)
    assert untold.float().mean().item() == pytest.approx(text, abs=0.03)
    assert (unseen & untold).float().mean().item() == pytest.approx(visual * text, abs=0.02)
    assert torch.equal(transformer.seen[~unseen], clips["visual"][~unseen])
    assert torch.equal(transformer.text[~untold], clips["text"][~untold])


def levels(timesteps, shift=1.0):
    return draw_sigmas(20_000, ObjectiveConfig(timesteps, shift, False, 0.0, 0.0), loop.seeded(0))


def test_noise_levels_follow_their_distributions():
    normal, shifted = torch.logit(levels("logit_normal")), torch.logit(levels("logit_normal", 6.0))
    assert normal.std().item() == pytest.approx(1, abs=0.02) and normal.mean().item() == pytest.approx(0, abs=0.02)
    assert torch.allclose(shifted, normal + math.log(6), atol=1e-3)
    uniform = levels("uniform")
    assert uniform.var().item() == pytest.approx(1 / 12, abs=2e-3) and uniform.mean().item() == pytest.approx(0.5, abs=0.01)


def network(seed=0):
    transformer = FoleyTransformer(SIZES)
    initialise(transformer, loop.seeded(seed))
    return transformer


def test_a_new_transformer_says_nothing_and_learns():
    transformer = network()
    objective = FlowObjective(config(), transformer, dict(transformer.named_parameters()))
    assert all(value.isfinite().all() for value in transformer.state_dict().values())
    clips = batch(8)
    optimiser = torch.optim.Adam(transformer.parameters(), 3e-3)
    losses = []
    for number in range(60):
        loss, _ = only(objective, number % 4, clips)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    expected = sum(losses[:4]) / 4
    assert losses[0] == pytest.approx(2, abs=0.3)  # variance of noise minus data, while the output is zero
    assert sum(losses[-4:]) / 4 < 0.8 * expected


def test_repa_reads_the_block_it_is_told_to_and_reaches_back_to_it_only():
    transformer, projector = network(), Projector(16, 8, TEACHER)
    with torch.no_grad():  # gates open, so that gradients flow through the blocks
        for name, parameter in transformer.named_parameters():
            if "modulation" in name or "mod.linear" in name:
                parameter.normal_(std=0.1)
    asked = config(repa=0.5)
    objective = FlowObjective(asked, transformer, dict(transformer.named_parameters()), projector)
    loss, parts = only(objective)
    assert loss.item() == pytest.approx(parts["flow"].item() + 0.5 * parts["repa"].item(), rel=1e-5)
    assert -1 <= parts["repa"].item() <= 1
    assert {"projector.layers.0.weight", "single_blocks.1.linear1.weight"} <= set(objective.phases[0].parameters)
    parts["repa"].backward()
    assert transformer.single_blocks[1].linear1.weight.grad.abs().sum() > 0
    assert transformer.final_layer.linear.weight.grad is None  # comes after the block


def test_validation_tells_the_loss_by_noise_level_and_is_the_same_each_time():
    transformer = network()
    objective = FlowObjective(config(visual_dropout=1.0, text_dropout=1.0), transformer, {})
    figures = objective.validate(batch(), loop.seeded(1))
    assert figures == objective.validate(batch(), loop.seeded(1))
    by_level = [figures[f"flow_at_{sigma}"] for sigma in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert figures["flow"] == pytest.approx(sum(by_level) / 5)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    create_cache(folder, {}, batch()["empty_text"][0, :3])
    writer = ShardWriter(folder, 8)
    clips = batch(6, seed=3)
    for number in range(6):
        tensors = {name: clips[name][number] for name in ("mean", "logvar", "visual", "sync", "text", "teacher")}
        shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
        writer.add(Record(f"clip {number}#0", "", f"clip {number}", "a knock", 0.0, 20_000.0, 4, shapes), tensors)
    writer.flush()
    return folder


def words(cache, out, *more):
    sizes = [f"model.{name}={value}" for name, value in SIZES.to_dict().items()]
    return [
        f"out={out}", f"data.cache={cache}", "data.held_out=2", "data.batch=2", "data.seconds=[]", *sizes,
        "repa.width=8", "loop.steps=6", "loop.warmup_steps=2", "loop.log_every=1", "loop.validate_every=3",
        "loop.validation_batches=1", "loop.save_every=3",
        *more,
    ]


def losses(folder):
    return [line["transformer.loss"] for line in read(folder / "metrics.jsonl") if "transformer.loss" in line]


def kill(done, of, figures):
    if done == 4:  # one update past the last checkpoint, which an interrupt then writes
        raise KeyboardInterrupt


def test_the_command_trains_what_inference_loads_and_goes_on_where_it_was_killed(cache, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    last = command.run("tiny", words(cache, whole))
    assert checkpoint.load_transformer(last / "weights.safetensors").config == SIZES

    with pytest.raises(KeyboardInterrupt):
        command.run("tiny", words(cache, cut), kill)
    command.run("tiny", words(cache, cut))
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-6) and len(losses(whole)) == 6


def test_another_device_learns_the_same(cache, tmp_path):
    here, there = (words(cache, tmp_path / name, "precision=fp32") for name in ("here", "there"))
    command.run("tiny", here)
    pretended_run.train("tiny", there)
    assert losses(tmp_path / "there") == pytest.approx(losses(tmp_path / "here"), rel=1e-3)


@pytest.mark.parametrize("change, message", [
    ("model.text_dim=24", "model.text_dim is 24, and the cache .* has 16"),
    ("repa.block=3", "repa.block is 3.*1 to 2"),
    ("objective.timesteps=normal", "objective.timesteps is 'normal'.*logit_normal"),
    ("objective.text_dropout=1.5", "text_dropout is 1.5"),
    ("objective.shift=0", "objective.shift is 0.*above 0"),
    ("precision=fp16", "precision is 'fp16'.*bf16"),
    ("data.held_out=6", "clips of 6 videos"),
])
def test_settings_that_do_not_fit_give_one_paragraph(cache, tmp_path, change, message):
    with pytest.raises(TrainingError, match=message):
        command.run("tiny", words(cache, tmp_path / "out", change))


def test_the_shipped_configuration_is_whole():
    assert build(FlowConfig, read_settings(CONFIGS / "tiny.toml")).repa.block == 1


def test_only_matrices_between_hidden_layers_are_muons():
    transformer = FoleyTransformer(SIZES)
    names = hidden_matrices(dict(transformer.named_parameters()))
    assert "single_blocks.1.modulation.linear.weight" in names and "triple_blocks.0.text_cross_kv.weight" in names
    assert not any(name.startswith(("final_layer.", "time_in.", "audio_embedder.", "empty_", "sync_pos")) for name in names)
    assert all(dict(transformer.named_parameters())[name].ndim == 2 for name in names)


def test_a_new_transformers_first_block_tells_where_in_the_clip_it_is():
    """Its update of equal audio tokens differs from place to place, as a line through the places would have it."""
    transformer = FoleyTransformer(replace(SIZES, hidden_size=32, num_heads=2, num_multimodal_blocks=2))
    initialise(transformer, loop.seeded(0))
    clips, frames = batch(1), 50
    prepared = transformer.prepare(clips["text"], clips["visual"], clips["sync"], frames)
    audio, visual = torch.zeros(1, frames, 32), prepared.visual
    activated = torch.zeros(1, 1, 32)
    updated, _ = transformer.triple_blocks[0](audio, visual, activated, prepared.text[0], prepared.rotations, torch_attention)
    places = torch.arange(frames).float()
    track = updated[0] - updated[0].mean(0)
    main = track @ torch.linalg.svd(track)[2][0]  # along the direction in which tokens differ most
    assert track.abs().max() > 0.05
    assert abs(torch.corrcoef(torch.stack((main, places)))[0, 1]) > 0.9
