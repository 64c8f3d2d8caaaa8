"""A run's LoRAs beside those of others: nothing is replaced that the run has not made."""

import os
import shutil

import pytest

from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.train import checkpoints
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.publishing import RECORD, check_names, publish


@pytest.fixture
def run(tmp_path):
    """A run with two checkpoints."""
    for step in (250, 500):
        learn(tmp_path / "doors", step)
    return tmp_path / "doors"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "loras").mkdir()
    return tmp_path / "loras"


def learn(run, step):
    place = checkpoints.place(run, step)
    place.mkdir(parents=True)
    (place / checkpoints.WEIGHTS).write_text(f"learned in {step}")


def texts(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_the_newest_has_the_name_and_those_before_their_step(run, folder):
    publish(run, folder)
    assert texts(folder) == {"doors.safetensors": "learned in 500", "doors_step250.safetensors": "learned in 250"}
    learn(run, 750)
    check_names(run, folder)
    publish(run, folder)
    assert texts(folder)["doors.safetensors"] == "learned in 750" and len(texts(folder)) == 3
    shutil.rmtree(checkpoints.place(run, 250))  # what was published of it stays, and stays the run's own
    check_names(run, folder)


@pytest.mark.parametrize("name", ["doors.safetensors", "doors_step250.safetensors", "doors_step99.safetensors"])
def test_a_file_of_another_refuses_the_name_at_the_start(run, folder, name):
    (folder / name).write_text("from elsewhere")
    with pytest.raises(InputError, match=f"There is a LoRA {name} that no run in.*Choose another name"):
        check_names(run, folder)


@pytest.mark.parametrize("name", ["doors_stepback.safetensors", "doors_step.safetensors", "Old doors_step250.safetensors"])
def test_names_that_the_run_never_writes_are_free(run, folder, name):
    (folder / name).write_text("from elsewhere")
    check_names(run, folder)


def test_a_file_that_came_while_the_run_was_training_stays(run, folder):
    (folder / "doors_step250.safetensors").write_text("from elsewhere")
    with pytest.raises(TrainingError, match="doors_step250.safetensors that the run has not made.*kept in .*step-00000250"):
        publish(run, folder)
    assert texts(folder) == {"doors.safetensors": "learned in 500", "doors_step250.safetensors": "from elsewhere"}


def test_a_file_that_was_put_in_the_place_of_ours_is_foreign(run, folder):
    publish(run, folder)
    (folder / "doors_step250.safetensors").write_text("merged with another")
    with pytest.raises(InputError, match="doors_step250"):
        check_names(run, folder)


@pytest.mark.parametrize("record", [None, "{", "{}"])
def test_without_a_record_the_contents_tell(run, folder, record):
    publish(run, folder)
    (run / RECORD).unlink() if record is None else (run / RECORD).write_text(record)
    os.utime(folder / "doors.safetensors", (0, 0))
    check_names(run, folder)
    publish(run, folder)
    shutil.rmtree(run)
    with pytest.raises(InputError, match="doors.safetensors that no run in"):
        check_names(run, folder)


def test_a_folder_that_cannot_be_written_to_is_said(run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match="cannot be written to .*doors_step250.*kept in .*step-00000250"):
        publish(run, tmp_path / "file")


def test_long_names(tmp_path, folder):
    run = tmp_path / ("x" * 235)
    for step in (250, 500):
        learn(run, step)
    publish(run, folder)
    assert texts(folder) == {f"{run.name}.safetensors": "learned in 500", f"{run.name}_step250.safetensors": "learned in 250"}
