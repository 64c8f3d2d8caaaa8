"""Two processes under torchrun against one: the same losses, weights and files."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from hunyuan_foley_core.train import checkpoints, loop, sharding
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.log import read

from . import sharded_run

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What one process and two processes wrote."""
    folder = tmp_path_factory.mktemp("sharding")
    torch.manual_seed(0)
    sharded_run.run(folder / "alone")
    sharded_run.run_lora(folder / "alone-lora")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, sharded_run.__file__, folder], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-6000:]
    return folder


def figures(folder):
    """What was logged, without the time it took."""
    lines = [line | line.get("validation", {}) for line in read(folder / "metrics.jsonl")]
    return [{key: value for key, value in line.items() if key not in ("seconds", "validation")} for line in lines]


def test_losses_are_those_of_one_process(folder):
    ours, expected = figures(folder / "shared"), figures(folder / "alone")
    assert [line["step"] for line in ours] == [line["step"] for line in expected] == [1, 2, 3, 3, 4]
    for one, other in zip(ours, expected):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("task", ["", "-lora"])
def test_weights_are_those_of_one_process_under_the_same_names(folder, task):
    ours, expected = (
        load_file(checkpoints.found(folder / f"{who}{task}")[-1] / "weights.safetensors") for who in ("shared", "alone")
    )
    assert ours.keys() == expected.keys()
    for key in expected:
        torch.testing.assert_close(ours[key], expected[key], rtol=1e-4, atol=1e-6, msg=key)


def test_one_process_goes_on_from_what_two_wrote(folder):
    """As it goes on from its own: averages, moments and all."""
    ours, expected = (sharded_run.run(folder / name, steps=5) for name in ("shared", "alone"))
    assert figures(folder / "shared")[-1] == pytest.approx(figures(folder / "alone")[-1], rel=1e-5)
    for name, parameter in expected.phases[0].parameters.items():
        torch.testing.assert_close(ours.phases[0].parameters[name], parameter, rtol=1e-4, atol=1e-6, msg=name)


def test_previews_are_written_once_and_alike(folder):
    ours, expected = (torch.load(folder / name / "previews" / "step-00000003" / "made.pt") for name in ("shared", "alone"))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)


def test_when_one_stops_all_stop(folder):
    assert [(folder / f"stopped-{first}").read_text() for first in (1, 0)] == ["Stopped", "KeyboardInterrupt"]
    assert "step-00000002" in [path.name for path in checkpoints.found(folder / "shared")]


def test_a_bad_batch_of_one_is_named_by_all(folder):
    for first in (1, 0):
        message = (folder / f"error-{first}").read_text()
        assert "became nan in update 2, on the batch of" in message or "became inf in update 2" in message
        assert "clip 5" in message


# In one process


def test_alone_nothing_is_sharded():
    model = sharded_run.objective().transformer
    assert sharding.count() == 1 and sharding.first() and not hasattr(model, "unshard")
    assert list(sharding.share(range(4, 7))) == [4, 5, 6]
    with sharding.processes("cpu"):
        assert sharding.count() == 1


def test_several_processes_need_devices_of_their_own(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match="cuda:0.*one each.*device=cuda"):
        with sharding.processes("cuda:0"):
            pass


def test_batches_that_cannot_be_shared_are_refused(monkeypatch):
    monkeypatch.setattr(sharding, "count", lambda: 2)
    with pytest.raises(TrainingError, match="accumulate is 3.*multiple.*accumulate=2"):
        sharding.share(range(3))


def test_processes_that_see_different_folders_are_refused(monkeypatch):
    monkeypatch.setattr(sharding, "everyones", lambda items: [*items, "step-00000004"])
    with pytest.raises(TrainingError, match="newest checkpoint: none, step-00000004.*all machines share"):
        sharding.check_same("the newest checkpoint", "none")


def test_a_task_that_is_not_sharded_trains_in_one_process(monkeypatch):
    monkeypatch.setattr(sharding, "count", lambda: 2)
    with pytest.raises(TrainingError, match="2 processes.*in one"):
        sharding.check_sharded({"weight": torch.nn.Parameter(torch.zeros(2))})


# What lets larger models fit


def gradient(**change):
    """All gradients of one batch as a vector."""
    trained = sharded_run.objective(SimpleNamespace(**vars(sharded_run.CONFIG) | change))
    for _, loss, _ in trained.losses(sharded_run.source(0), 0, loop.seeded(1)):
        loss.backward()
    parameters = trained.phases[0].parameters.values()
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    return torch.cat([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_blocks_computed_again_give_the_same_gradients(precision):
    assert torch.equal(gradient(precision=precision, checkpointing=True), gradient(precision=precision, checkpointing=False))


def test_bf16_points_where_float32_does():
    exact, rough = gradient(precision="fp32"), gradient(precision="bf16")
    assert not torch.equal(exact, rough)
    assert torch.nn.functional.cosine_similarity(exact, rough, dim=0) > 0.999
