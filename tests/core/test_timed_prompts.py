"""Timed prompts: reading them, saying what is wrong with them, and what they weigh at each frame."""

import pytest
import torch

from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.timed_prompts import EDGE_SECONDS, POINT_SECONDS, TimedPrompt, clock, complete, parse, prompt_weights

EXAMPLE = """
0:00-0:03 footsteps on gravel
  0:03.2 door slams, 2 times
1:02:03 \u2013 1:02:04.25  a bell
#2 a crowd

* light rain
"""


def test_every_kind_of_line_is_read():
    assert parse(EXAMPLE) == [
        TimedPrompt("footsteps on gravel", 2, 0.0, 3.0),
        TimedPrompt("door slams, 2 times", 3, 3.2, 3.2 + POINT_SECONDS),
        TimedPrompt("a bell", 4, 3723.0, 3724.25),
        TimedPrompt("a crowd", 5, scene=2),
        TimedPrompt("light rain", 7),
    ]


@pytest.mark.parametrize("text, message", [
    ("door slams", "Line 1, character 1: found `door`. Expected a time such as 0:03"),
    ("0:01 bell\n3 dogs bark", "Line 2, character 1: found `3`. Expected a time"),
    ("0:03- door", "Line 1, character 7: found `door`. Expected a time such as 0:03 at which"),
    ("0:05-0:03 door", "Line 1, character 6: found `0:03`. Expected a time after 0:05, where"),
    ("0:05-0:05 door", "Line 1, character 6: found `0:05`. Expected a time after 0:05"),
    ("0:75 door", "Line 1, character 1: found `0:75`. Expected a time as m:ss"),
    ("0:03-0:04door", "Line 1, character 10: found `door`. Expected a space"),
    ("\n0:03", "Line 2, character 5: found the end of the line. Expected a prompt"),
    ("*  ", "Line 1, character 4: found the end of the line. Expected a prompt"),
    ("#x crowd", "Line 1, character 1: found `#x`"),
    ("* rain\n0:01 bell\n* wind", "Line 3, character 1: found a second `\\*`, the first is in line 1"),
    (" \n", "There is no timed prompt. Expected at least one line"),
])
def test_errors_point_at_the_line_and_the_character(text, message):
    with pytest.raises(InputError, match=message):
        parse(text)


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (3.2, "0:03.2"), (59.999, "1:00"), (3723.25, "1:02:03.25")])
def test_times_are_written_as_they_are_read(seconds, text):
    assert clock(seconds) == text
    assert parse(f"{text} x")[0].start == pytest.approx(seconds, abs=0.005)


def weights(text, seconds=8, cuts=()):
    """Those of the lines in their order; the last is for everywhere else, where no line is."""
    return prompt_weights(complete(parse(text), ""), round(50 * seconds), cuts)


@pytest.mark.parametrize("text", [
    "0:01-0:02 a", "0:00-0:08 a", "* a", "0:01-0:03 a\n0:02-0:04 b\n0:02.5 c\n* d", "0:07.5-0:20 a\n0:03-0:05 b\n0:05-0:06 c",
])
def test_weights_sum_to_one(text):
    shares = weights(text)
    assert torch.allclose(shares.sum(dim=0), torch.ones(400), atol=1e-6) and (shares >= 0).all()


def test_a_span_counts_alone_inside_and_not_at_all_outside():
    share, rest = weights("0:02-0:04 a\n* b")
    edge = round(50 * EDGE_SECONDS / 2)
    assert (share[100 + edge : 200 - edge] == 1).all() and (share[: 100 - edge] == 0).all() and (share[200 + edge :] == 0).all()
    assert (rest[: 100 - edge] == 1).all() and 0.3 < share[99] < 0.5 < share[100] < 0.7


def test_spans_that_overlap_share_and_neighbours_leave_nothing_over():
    assert weights("0:01-0:03 a\n0:02-0:04 b")[:, 125].tolist() == [0.5, 0.5, 0]
    assert (weights("* c\n0:00-0:03 a\n0:03-0:08 b")[0] < 1e-6).all()


def test_spans_at_the_ends_of_the_clip_have_no_edge_there():
    share, rest = weights("0:00-0:09 a")
    assert (share == 1).all() and (rest == 0).all()


def test_scenes_begin_and_end_at_their_cuts():
    share, rest = weights("#2 a", cuts=(120, 300))
    assert share.nonzero().flatten().tolist() == list(range(120, 300))
    assert (share + rest == 1).all()


@pytest.mark.parametrize("text, message", [
    ("0:03 a\n0:08-0:09 b", "Line 2: the prompt begins at 0:08, and the clip ends at 0:08"),
    ("#3 a", "Line 1: there is no scene 3. The video has 2."),
    ("#0 a", "there is no scene 0"),
])
def test_prompts_outside_of_the_clip_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        weights(text, cuts=(120,))
