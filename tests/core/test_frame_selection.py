"""Frame choice: the published picks, exactly, whichever way they are asked for."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.media import FrameClock, frames_from_images, select_frames
from hunyuan_foley_core.timing import seconds_of_sync_frames

CASES = json.loads((Path(__file__).parent.parent / "fixtures/parity/frame_selection.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_published_picks(case):
    times = [ms / 1000 for ms in case["frame_times_ms"]]
    assert select_frames(times, 8) == case["selected_8fps"]
    assert select_frames(times, 25) == case["selected_25fps"]
    assert len(select_frames(times, 8)) / 8 == case["seconds_8fps"]
    assert seconds_of_sync_frames(len(select_frames(times, 25))) == case["seconds_25fps"]


def test_the_clock_adds_up_instead_of_multiplying():
    times = [k / 25 for k in range(100)]
    late = [k for k in range(100) if sum([1 / 25] * k) > times[k]]
    assert late, "the case is only worth testing where both clocks differ"
    assert late[0] not in select_frames(times, 25)


def test_late_frames_repeat_and_early_ones_are_skipped():
    assert select_frames([-0.2, -0.1, 0.1, 0.5], 8) == [2, 3, 3, 3, 3]


def test_reading_stops_at_the_first_frame_past_the_limit():
    times = [0.0, 14.99, 15.0, 15.2, 3.0]
    assert set(select_frames(times, 8)) == {0, 1, 2}
    assert len(select_frames(times, 8)) == 121
    assert set(select_frames(times, 8, max_seconds=None)) == {0, 1, 2, 3}
    assert select_frames(times, 8, max_seconds=0.05) == [0]


def test_clock_counts_ticks_reached():
    clock = FrameClock(8)
    assert [clock.ticks(t) for t in (0.0, 0.1, 0.125, 0.5)] == [1, 0, 1, 3]


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_rates_must_be_positive(fps):
    with pytest.raises(InputError, match="frame rate"):
        select_frames([0.0], fps)
    with pytest.raises(InputError, match="frame rate"):
        frames_from_images(torch.zeros(1, 4, 4, 3), fps)


@pytest.mark.parametrize("fps", [24, 30, 12.5, Fraction(30000, 1001)])
def test_image_batches_are_chosen_like_files(fps):
    count = 50
    images = torch.arange(count).div(255).view(-1, 1, 1, 1).expand(count, 2, 3, 3)
    frames = list(frames_from_images(images, fps))
    times = [float(k / fps) for k in range(count)]
    picks = [int(f.image[0, 0, 0]) for f in frames for _ in range(f.sync_repeats)]
    assert picks == select_frames(times, 25)
    assert [int(f.image[0, 0, 0]) for f in frames for _ in range(f.visual_repeats)] == select_frames(times, 8)
    assert frames[0].image.shape == (3, 2, 3)


def test_image_levels_are_exact_and_alpha_is_dropped():
    levels = torch.arange(256).div(255).view(1, 16, 16, 1)
    images = torch.cat([levels, levels, levels, torch.zeros_like(levels)], dim=-1)
    (frame,) = frames_from_images(images, 24)
    assert frame.image.dtype == torch.uint8
    assert torch.equal(frame.image[1].flatten(), torch.arange(256, dtype=torch.uint8))


def test_values_outside_the_range_are_clamped():
    images = torch.tensor([-1.0, 2.0, float("nan")]).view(1, 1, 1, 3)
    (frame,) = frames_from_images(images, 24)
    assert frame.image.flatten().tolist() == [0, 255, 0]


@pytest.mark.parametrize("shape", [(0, 4, 4, 3), (2, 4, 4, 1), (4, 4, 3), (1, 0, 4, 3)])
def test_shapes_that_are_no_pictures(shape):
    with pytest.raises(InputError, match="shape"):
        frames_from_images(torch.zeros(shape), 24)
