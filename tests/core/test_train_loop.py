"""The loop on objectives small enough to follow by hand: schedules, resuming, stopping, and what is written when."""

import json
import math
import os
import signal
import sys
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from hunyuan_foley_core import ops
from hunyuan_foley_core.train import checkpoints, loop
from hunyuan_foley_core.train.config import LoopConfig, OptimiserConfig
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.log import MetricsLog, read

LOOP = LoopConfig(
    steps=12, accumulate=1, warmup_steps=3, schedule="cosine", final_rate=0.1, ema=0.9, log_every=1, tensorboard=False, validate_every=4,
    validation_batches=2, save_every=4, keep=2, seed=5,
)
SETTINGS = {"task": "toy", "model": {"width": 4}, "loop": {"steps": 12}}
ADAM = OptimiserConfig(1e-2, 0.0, (0.8, 0.99), 0.01, 1.0)


class Toy:
    """Fits a line to noisy points while a second network, with an optimiser of its own, fits the first's mistakes."""

    averaged = "line"

    def __init__(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.line, self.critic = ops.Linear(4, 1), ops.Linear(4, 1)
        self.phases = [
            loop.Phase("line", dict(self.line.named_parameters()), ADAM),
            loop.Phase("critic", dict(self.critic.named_parameters()), replace(ADAM, clip=10.0)),
        ]

    def losses(self, batch, step, generator):
        error = self.line(batch["x"]) - batch["y"] - 0.1 * torch.randn(batch["y"].shape, generator=generator)
        if step >= 2:
            yield "critic", (self.critic(batch["x"]) - error.detach()).square().mean(), {}
        loss = error.square().mean()
        yield "line", loss, {"half": loss / 2}

    def validate(self, batch, generator):
        draw = torch.randn((), generator=generator).item()
        return {"error": (self.line(batch["x"]) - batch["y"]).abs().mean().item(), "draw": draw}

    def preview(self, batch, generator, folder):
        (folder / "line.txt").write_text(str(self.line.weight.tolist()))

    def export(self):
        return self.line.state_dict(), {"config": json.dumps({"width": 4})}


def source(number):
    x = torch.randn(8, 4, generator=loop.seeded(1, number))
    return {"x": x, "y": x.sum(dim=1, keepdim=True), "names": [f"clip {number}"]}


def run(folder, objective=None, config=LOOP, settings=SETTINGS, callback=None, batches=source):
    objective = objective or Toy()
    loop.train(objective, batches, config, folder, settings=settings, validation=source, callback=callback)
    return objective


def figures(folder):
    """What was logged, without the time it took."""
    return [{key: value for key, value in line.items() if key != "seconds"} for line in read(folder / "metrics.jsonl")]


def stopping_at(step, action):
    return lambda done, of, newest: action() if done == step else None


class Cancelled(Exception):
    pass


def cancel():
    raise Cancelled


# Going on


@pytest.mark.parametrize("step", [3, 5, 8])
def test_a_run_that_stopped_goes_on_as_if_it_had_not(tmp_path, step):
    whole = run(tmp_path / "whole")
    with pytest.raises(Cancelled):
        run(tmp_path / "parts", callback=stopping_at(step, cancel))
    assert checkpoints.load(checkpoints.found(tmp_path / "parts")[-1])["step"] == step
    parts = run(tmp_path / "parts")
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")
    for one, other in zip(whole.phases, parts.phases):
        assert all(torch.equal(one.parameters[name], other.parameters[name]) for name in one.parameters)


def test_a_killed_run_repeats_what_its_checkpoint_lacks(tmp_path):
    run(tmp_path / "whole")

    def die(number):
        if number == 7:
            os._exit(9)  # as kill -9: no handler, no clean-up
        return source(number)

    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        try:
            run(tmp_path / "killed", batches=die)
        finally:
            os._exit(1)  # or the child would go on with the tests after this one
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [line["step"] for line in read(tmp_path / "killed" / "metrics.jsonl")][-1] == 7
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "line.lo')  # a kill may cut a line
    run(tmp_path / "killed")
    ours, expected = figures(tmp_path / "killed"), figures(tmp_path / "whole")
    assert [line["step"] for line in ours] == [line["step"] for line in expected]
    for one, other in zip(ours, expected):
        for name in other:
            assert one[name] == pytest.approx(other[name], abs=1e-6)


def test_a_finished_run_stays_finished(tmp_path):
    run(tmp_path)
    before = figures(tmp_path)
    run(tmp_path, batches=None)  # no batch is asked for
    assert figures(tmp_path) == before


@pytest.mark.parametrize("steps", [12, 8])
def test_a_finished_run_refuses_settings_that_it_cannot_follow(tmp_path, steps):
    settings = SETTINGS | {"out": "here", "start": str(tmp_path / "gone" / "base.pth"), "rate": 0.1, "data": {"cache": "a"}}
    run(tmp_path / "doors", settings=settings)
    change = {"rate": 0.2, "loop": {"steps": steps}}
    with pytest.raises(TrainingError, match="doors is finished after 12 updates; .*rate from 0.1 to 0.2.*Raise steps"):
        run(tmp_path / "doors", settings=settings | change, config=replace(LOOP, steps=steps), batches=None)
    with pytest.raises(TrainingError, match="data.cache from 'a' to 'b'"):
        run(tmp_path / "doors", settings=settings | {"data": {"cache": "b"}}, batches=None)
    # Where the run lies, a file that was moved, and what only one side knows of are no such changes.
    moved = {"out": "there", "device": "cuda", "start": "elsewhere/base.pth", "clips": "7 clips", "data": {"held_out": 1}}
    run(tmp_path / "doors", settings=settings | moved, batches=None)


def test_changed_settings_are_named(tmp_path, caplog):
    run(tmp_path, config=replace(LOOP, steps=4))
    run(tmp_path, settings=SETTINGS | {"loop": {"steps": 20}}, config=replace(LOOP, steps=5))
    assert "Going on after 4 updates with changed settings: loop.steps from 12 to 20." in caplog.text
    with pytest.raises(TrainingError, match="model.width from 4 to 8.*same task and model"):
        run(tmp_path, settings=SETTINGS | {"model": {"width": 8}})


def test_a_phase_may_join_later(tmp_path):
    alone = Toy()
    alone.phases = alone.phases[:1]
    run(tmp_path, alone, config=replace(LOOP, steps=2))
    both = Toy()
    begun = both.critic.weight.detach().clone()
    run(tmp_path, both, config=replace(LOOP, steps=6))
    assert not torch.equal(both.critic.weight, begun)


def test_weights_of_other_shapes_are_refused(tmp_path):
    run(tmp_path, config=replace(LOOP, steps=4))
    wider = Toy()
    wider.critic = ops.Linear(5, 1)
    wider.phases[1] = replace(wider.phases[1], parameters=dict(wider.critic.named_parameters()))
    with pytest.raises(TrainingError, match="critic_width from None to 5.*weights of the same shapes"):
        run(tmp_path, wider, settings=SETTINGS | {"critic_width": 5})


def test_a_damaged_checkpoint_is_named(tmp_path):
    run(tmp_path)
    newest = checkpoints.found(tmp_path)[-1]
    (newest / "training.pt").write_bytes(b"no zip")
    with pytest.raises(TrainingError, match=f"{newest.name}.*Delete this folder"):
        run(tmp_path)


# Stopping


def test_a_loss_that_is_not_finite_stops_and_names_the_batch(tmp_path):
    def poisoned(number):
        batch = source(number)
        return batch | {"y": batch["y"] / 0} if number == 9 else batch

    objective = Toy()
    with pytest.raises(TrainingError, match="`critic` became inf in update 10, on the batch of clip 9"):
        run(tmp_path, objective, batches=poisoned)
    assert [path.name for path in checkpoints.found(tmp_path)] == ["step-00000004", "step-00000008"]
    assert all(parameter.isfinite().all() for phase in objective.phases for parameter in phase.parameters.values())


def test_a_gradient_that_is_not_finite_moves_nothing(tmp_path):
    class Steep(Toy):
        def losses(self, batch, step, generator):
            zero = (self.line.weight - self.line.weight).sum()
            yield "line", zero.sqrt(), {}

    objective = Steep()
    before = objective.line.weight.detach().clone()
    with pytest.raises(TrainingError, match="gradient of `line`.*update 1, on the batch of clip 0"):
        run(tmp_path, objective)
    assert torch.equal(objective.line.weight, before) and not checkpoints.found(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_update_finish_and_saves(tmp_path, number):
    def interrupted(batch):
        if batch == 5:
            os.kill(os.getpid(), number)
        return source(batch)

    handler = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="after update 6"):
        run(tmp_path, batches=interrupted)
    assert checkpoints.load(checkpoints.found(tmp_path)[-1])["step"] == 6
    assert signal.getsignal(number) is handler


def test_a_second_signal_stops_at_once(tmp_path):
    def impatient(batch):
        if batch == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return source(batch)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, batches=impatient)
    assert [path.name for path in checkpoints.found(tmp_path)] == ["step-00000004"]


def test_the_echo_of_a_signal_that_torchrun_sends_is_not_a_second_one(monkeypatch):
    monkeypatch.setattr(loop.sharding, "count", lambda: 2)
    with loop.deferred_interrupts() as received:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGINT, signal.SIGTERM]
        monkeypatch.setattr(loop, "ECHO_SECONDS", -1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_it_runs_in_any_thread(tmp_path):
    thread = threading.Thread(target=run, args=(tmp_path,))
    thread.start()
    thread.join()
    assert len(checkpoints.found(tmp_path)) == LOOP.keep


# Checkpoints


def test_a_checkpoint_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    run(tmp_path, config=replace(LOOP, steps=4))
    monkeypatch.setattr(checkpoints.os, "rename", full)
    with pytest.raises(TrainingError, match="step 8 cannot be written.*No space left"):
        run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["previews", "step-00000004"]


@pytest.mark.skipif(os.name != "posix", reason="limits and forks are POSIX's")
@pytest.mark.parametrize("weights, training", [(1 << 20, 1), (1, 1 << 20)])
def test_a_full_disk_is_told_by_whoever_notices(tmp_path, weights, training):
    """Files may have 100 kB here: first the weights do not fit, then the rest."""
    import resource

    def write(step, weights, training):
        checkpoints.save(tmp_path, step, {"w": torch.zeros(weights)}, {}, {"t": torch.zeros(training)}, keep=3)

    write(1, 1, 1)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write(2, weights, training)
        except TrainingError:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


class Broken(Toy):
    """Its previews fail at the updates `at`."""

    def __init__(self, at, error):
        super().__init__()
        self.at, self.error = at, error

    def preview(self, batch, generator, folder):
        if folder.name in self.at:
            raise self.error
        super().preview(batch, generator, folder)


@pytest.mark.parametrize("save_every", [4, 100])
def test_a_validation_that_fails_loses_nothing(tmp_path, save_every):
    whole = run(tmp_path / "whole", config=replace(LOOP, save_every=save_every))
    parts, config = tmp_path / "parts", replace(LOOP, save_every=save_every)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(parts, Broken(["step-00000008"], RuntimeError("out of memory")), config)
    assert checkpoints.load(checkpoints.found(parts)[-1])["step"] == 8
    again = run(parts, config=config)
    for one, other in zip(whole.phases, again.phases):
        assert all(torch.equal(one.parameters[name], other.parameters[name]) for name in one.parameters)
    assert [line for line in figures(parts) if "line.loss" in line] == \
        [line for line in figures(tmp_path / "whole") if "line.loss" in line]


def test_previews_that_cannot_be_written_are_said(tmp_path):
    with pytest.raises(TrainingError, match="The previews of the run.*step-00000004: .*No space left.*Make room"):
        run(tmp_path, Broken(["step-00000004"], OSError(28, "No space left on device")))
    assert checkpoints.found(tmp_path)[-1].name == "step-00000004"


def test_only_the_newest_are_kept(tmp_path):
    run(tmp_path, config=replace(LOOP, save_every=1, keep=3))
    written = checkpoints.found(tmp_path)
    assert [path.name[-2:] for path in written] == ["10", "11", "12"]
    assert [(path / "training.pt").exists() for path in written] == [False, True, True]
    assert all((path / "weights.safetensors").exists() for path in written)


def test_exported_weights_are_the_average(tmp_path):
    objective = run(tmp_path)
    newest = checkpoints.found(tmp_path)[-1]
    exported, state = load_file(newest / "weights.safetensors"), checkpoints.load(newest)
    assert torch.equal(exported["weight"], state["average"]["weight"])
    assert not torch.equal(exported["weight"], objective.line.weight)


def test_without_averaging_the_newest_weights_are_exported(tmp_path):
    objective = run(tmp_path, config=replace(LOOP, ema=0.0))
    exported = load_file(checkpoints.found(tmp_path)[-1] / "weights.safetensors")
    torch.testing.assert_close(exported["weight"], objective.line.weight.detach(), atol=0, rtol=0)


# Figures


def test_a_run_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="The figures of the run cannot be written to .*file: .*out=..."):
        run(tmp_path / "file", batches=None)
    log = MetricsLog(tmp_path, 0)
    log.write(1, {"loss": 1.0})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log.path.__class__, "open", full)
        with pytest.raises(TrainingError, match="figures.*No space left"):
            log.write(2, {"loss": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(log.path.__class__, "write_text", full)
        with pytest.raises(TrainingError, match="figures.*No space left"):
            MetricsLog(tmp_path, 1)
    assert read(log.path) == [{"step": 1, "loss": 1.0}]  # what was there stays


class Board:
    """Stands in for TensorBoard's writer, which is not installed everywhere."""

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.scalars, self.flushed = folder, purge_step, [], 0
        Board.newest = self

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def flush(self):
        self.flushed = len(self.scalars)


def test_tensorboard_gets_the_same_figures_by_groups(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    run(tmp_path, config=replace(LOOP, steps=4, tensorboard=True))
    run(tmp_path, config=replace(LOOP, steps=8, tensorboard=True))
    board = Board.newest
    assert (board.folder, board.purge_step) == (str(tmp_path / "tensorboard"), 5)
    assert {name for name, *_ in board.scalars} == {
        "line/loss", "line/half", "line/gradient", "critic/loss", "critic/gradient", "seconds",
        "validation/error", "validation/draw",
    }
    written = {line["step"]: line for line in read(tmp_path / "metrics.jsonl") if "line.loss" in line}
    assert [value for name, value, _ in board.scalars if name == "line/loss"] == [written[i]["line.loss"] for i in range(5, 9)]
    assert board.flushed == len(board.scalars)


def test_names_of_nested_figures_keep_their_dots(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Board))
    MetricsLog(tmp_path, 0, tensorboard=True).write(3, {"validation": {"flow_at_0.1": 2.0, "by": {"a": 1.0}}})
    assert Board.newest.scalars == [("validation/flow_at_0.1", 2.0, 3), ("validation/by/a", 1.0, 3)]


def test_tensorboard_that_is_not_there_is_told_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainingError, match="pip install tensorboard.*loop.tensorboard=false"):
        run(tmp_path, config=replace(LOOP, tensorboard=True), batches=None)


# Numbers


def test_validation_draws_the_same_each_time(tmp_path):
    run(tmp_path)
    draws = [line["validation"]["draw"] for line in figures(tmp_path) if "validation" in line]
    assert len(draws) == 3 and len(set(draws)) == 1


def test_previews_are_made_with_the_averaged_weights(tmp_path):
    run(tmp_path, config=replace(LOOP, steps=4))
    averaged = load_file(checkpoints.found(tmp_path)[-1] / "weights.safetensors")["weight"]
    assert (tmp_path / "previews" / "step-00000004" / "line.txt").read_text() == str(averaged.tolist())


def test_two_batches_make_the_update_of_one_of_both(tmp_path):
    class Plain(Toy):
        def losses(self, batch, step, generator):
            yield "line", (self.line(batch["x"]) - batch["y"]).square().mean(), {}

    def both(number):
        parts = [source(2 * number), source(2 * number + 1)]
        return {key: torch.cat([part[key] for part in parts]) for key in ("x", "y")}

    halves = run(tmp_path / "halves", Plain(), config=replace(LOOP, accumulate=2))
    whole = run(tmp_path / "whole", Plain(), batches=both)
    torch.testing.assert_close(halves.line.weight, whole.line.weight)
    norms = [[line["line.gradient"] for line in read(tmp_path / name / "metrics.jsonl") if "line.gradient" in line]
             for name in ("halves", "whole")]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)


def test_gradients_are_clipped_and_their_norm_is_reported(tmp_path):
    class Fast(Toy):
        def losses(self, batch, step, generator):
            yield "line", 1e6 * self.line.weight.sum(), {}

    objective = Fast()
    seen = []
    hook = loop.nn.utils.clip_grad_norm_

    def recorded(parameters, clip):
        parameters = list(parameters)
        norm = hook(parameters, clip)
        seen.append(math.sqrt(sum(p.grad.square().sum().item() for p in parameters if p.grad is not None)))
        return norm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", recorded)
        run(tmp_path, objective, config=replace(LOOP, steps=2))
    assert seen == pytest.approx([1.0, 1.0], rel=1e-4)
    assert figures(tmp_path)[0]["line.gradient"] == pytest.approx(2e6)


def test_schedules():
    def shares(**change):
        return [loop.rate(step, replace(LOOP, **change)) for step in range(100)]

    cosine = shares(steps=100, warmup_steps=10)
    assert cosine[:10] == pytest.approx([(i + 1) / 10 for i in range(10)]) and cosine[10] == 1
    assert cosine[55] == pytest.approx(0.55) and cosine[99] == pytest.approx(0.1, abs=1e-3)
    assert all(a >= b for a, b in zip(cosine[10:], cosine[11:]))
    step = shares(steps=100, schedule="step", warmup_steps=0)
    assert (step[79], step[80], step[89], step[90]) == pytest.approx((1, 0.1, 0.1, 0.01))
    assert set(shares(steps=100, schedule="constant", warmup_steps=0)) == {1.0}


def test_generators_differ_by_every_number():
    seeds = [(0, 0), (0, 1), (1, 0), (1,), (0, 0, 1)]
    assert len({torch.rand((), generator=loop.seeded(*numbers)).item() for numbers in seeds}) == 5
