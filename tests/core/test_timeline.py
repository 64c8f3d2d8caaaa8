"""The timeline: everything stands where its time is, whatever is there to show."""

import tracemalloc

import numpy as np
import pytest
import torch

from hunyuan_foley_core import media
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.timed_prompts import parse
from hunyuan_foley_core.timeline import Span, draw_timeline, spans_of, watch
from hunyuan_foley_core.timeline.draw import LEFT, RIGHT, TOP, clock
from hunyuan_foley_core.timeline.lanes import stacked
from hunyuan_foley_core.timeline.paint import MOTION, ONSET, PROMPT, SCENE, WINDOW
from hunyuan_foley_core.timeline.watch import STRIP_HEIGHT

WIDTH = 1600
PLOT = WIDTH - LEFT - RIGHT


def clicks(seconds: float, *times: float) -> torch.Tensor:
    """Short bursts of noise over a quiet room."""
    generator = torch.Generator().manual_seed(0)
    sound = 1e-5 * torch.randn(1, round(seconds * 48_000), generator=generator)
    for time in times:
        at = round(time * 48_000)
        sound[0, at : at + 4800] += 0.3 * torch.randn(4800, generator=generator) * torch.exp(-torch.arange(4800) / 900)
    return sound


def columns(image: np.ndarray, colour) -> np.ndarray:
    """Places across, 0 to 1 of the axis, of the pixels in exactly that colour."""
    return (np.unique(np.nonzero((image == np.uint8(colour)).all(axis=-1))[1]) - LEFT) / PLOT


def moving(frames: int, rate: float, change_at: int, height: int = 72, width: int = 96):
    """Grey frames that turn brighter once."""
    for number in range(frames):
        level = 60 if number < change_at else 200
        yield media.SelectedFrame(number / rate, torch.full((3, height, width), level, dtype=torch.uint8), 1, 1)


def test_onsets_stand_above_their_sound():
    image = draw_timeline(None, sound=(clicks(4.0, 0.5, 1.7, 3.2), 48_000))
    assert image.dtype == np.uint8 and image.shape[1:] == (WIDTH, 3)
    marks = columns(image, ONSET) * 4
    assert [float(abs(marks - time).min()) for time in (0.5, 1.7, 3.2)] == pytest.approx([0, 0, 0], abs=0.01)
    assert all(min(abs(mark - time) for time in (0.5, 1.7, 3.2)) < 0.03 for mark in marks)


def test_motion_rises_where_the_picture_changes():
    image = draw_timeline(moving(50, 25, 30), 2.0)
    below = image[TOP + STRIP_HEIGHT :]
    highest = np.nonzero((below == np.uint8(MOTION)).all(axis=-1))[0].min()
    peak = columns(below[highest : highest + 1], MOTION) * 2
    assert abs(peak.mean() - 30 / 25) < 0.05 and np.ptp(peak) < 0.1
    watched = watch(moving(50, 25, 30), PLOT)
    assert int(np.argmax(watched.motion)) == 29 and sum(value > 0 for value in watched.motion) == 1


def test_the_strip_shows_what_is_seen_at_its_place():
    image = draw_timeline(moving(50, 25, 30), 2.0)
    row = image[TOP + STRIP_HEIGHT // 2, LEFT : LEFT + PLOT, 0].astype(int)
    assert abs(row[: PLOT // 2] - 60).max() <= 60 and np.median(row[: PLOT // 2]) == 60
    assert np.median(row[round(0.65 * PLOT) :]) == 200


def test_spans_lie_where_they_are_and_beside_each_other():
    spans = [Span(0, 3, "a"), (1, 2, "b"), (2, 4, "c " * 400), (3.5, 9, "d")]
    assert stacked([Span(*span) for span in spans]) == [0, 1, 1, 0]
    for name, colour in (("scenes", SCENE), ("windows", WINDOW), ("prompts", PROMPT)):
        image = draw_timeline(moving(100, 25, 1), 4.0, **{name: [(1.0, 3.0, "x")]})
        ends = columns(image, colour)
        assert ends.min() * 4 == pytest.approx(1, abs=0.02) and ends.max() * 4 == pytest.approx(3, abs=0.02)
    assert draw_timeline(moving(100, 25, 1), 4.0, prompts=spans).shape[0] > image.shape[0]


def test_prompts_are_shown_where_they_hold_and_refused_where_they_could_not_be_made():
    prompts = spans_of(3.0, cuts=(60,), prompts=parse("#2 rain\n0:02-0:50 wind\n* a room"))["prompts"]
    assert prompts == [Span(1.2, 3.0, "rain"), Span(2.0, 3.0, "wind"), Span(0.0, 3.0, "* a room")]
    for line, message in (("#7 rain", "no scene 7"), ("0:50 bang", "the prompt begins at 0:50")):
        with pytest.raises(InputError, match=message):
            spans_of(3.0, prompts=parse(line))


def test_the_scale_reads_as_people_write_times():
    assert [clock(t, 0.5) for t in (0, 1.5, 61.5)] == ["0.0 s", "1.5 s", "1:01.5"]
    assert [clock(t, 10) for t in (0, 50, 90, 600)] == ["0 s", "50 s", "1:30", "10:00"]


@pytest.mark.parametrize("sound", [torch.zeros(2, 44_100), torch.zeros(1, 10), torch.zeros(1, 0), clicks(1.0, 0.5)])
@pytest.mark.parametrize("frames", [1, 2])
def test_whatever_is_there_is_drawn(sound, frames):
    image = draw_timeline(moving(frames, 25, 1), 1.0, sound=(sound, 44_100), width=800)
    assert image.shape[1] == 800 and image.std() > 1


def test_nothing_to_show_is_said():
    with pytest.raises(InputError, match="neither a picture nor a sound"):
        draw_timeline(None)
    with pytest.raises(InputError, match="100 pixels"):
        draw_timeline(None, sound=(clicks(1.0), 48_000), width=100)


def test_memory_does_not_grow_with_the_clip():
    def peak(frames: int) -> int:
        tracemalloc.start()
        watched = watch(moving(frames, 25, 5), PLOT)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(watched.pictures) < 60
        assert watched.pictures[-1][0] - watched.pictures[0][0] > 0.8 * frames / 25
        return size

    peak(10)
    assert peak(3000) < 1.5 * peak(300) + 3000 * 100
