"""The arithmetic behind exact chunks, checked against what autograd says a layer depends on."""

import pytest
import torch

from hunyuan_foley_core import ops
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.vae.chunking import Context, context_of, inputs_needed, longest_window, plan_chunks, walk

LENGTH = 90
CONVOLUTIONS = [
    ops.Conv1d(1, 1, 7, padding=3),
    ops.Conv1d(1, 1, 7, padding=27, dilation=9),
    ops.Conv1d(1, 1, 4, stride=2, padding=1),
    ops.Conv1d(1, 1, 6, stride=3, padding=2),
    ops.Conv1d(1, 1, 10, stride=5, padding=3),
    ops.ConvTranspose1d(1, 1, 6, stride=3, padding=2, output_padding=1),
    ops.ConvTranspose1d(1, 1, 10, stride=5, padding=3, output_padding=1),
    ops.ConvTranspose1d(1, 1, 16, stride=8, padding=4),
]


class Cancelled(Exception):
    pass


def span_by_autograd(network, first, last):
    """First and last input position with a gradient from outputs `first` to `last`."""
    signal = torch.zeros(1, 1, LENGTH, dtype=torch.float64, requires_grad=True)
    network.to(torch.float64)(signal)[..., first : last + 1].sum().backward()
    touched = signal.grad[0, 0].nonzero()
    return int(touched.min()), int(touched.max())


@pytest.mark.parametrize("convolution", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("width", [1, 2, 5])
def test_inputs_needed_is_what_the_gradient_reaches(convolution, width):
    middle = convolution(torch.zeros(1, 1, LENGTH, dtype=convolution.weight.dtype)).shape[-1] // 2
    expected = span_by_autograd(convolution, middle, middle + width - 1)
    assert inputs_needed(convolution, middle, middle + width - 1) == expected


def test_context_of_a_stack_is_exact_and_in_whole_frames():
    down = torch.nn.Sequential(ops.Conv1d(1, 1, 7, padding=3), ops.Conv1d(1, 1, 6, stride=3, padding=2))
    first, last = span_by_autograd(down, 10, 10)
    assert (first, last) == (25, 36)  # 5 samples before frame 10 (30..32), 4 after
    assert context_of(down, frame_in=3, frame_out=1) == Context(left=2, right=2)

    up = torch.nn.Sequential(
        ops.ConvTranspose1d(1, 1, 4, stride=2, padding=1), ops.Conv1d(1, 1, 5, padding=2)
    )
    first, last = span_by_autograd(up, 20, 21)
    assert context_of(up, frame_in=1, frame_out=2) == Context(left=10 - first, right=last - 10)


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("chunk_frames", [1, 8, 1000, None])
def test_chunks_tile_the_signal_and_stay_small(frames, chunk_frames):
    chunks = plan_chunks(frames, chunk_frames, Context(3, 5))
    assert [frame for chunk in chunks for frame in range(chunk.start, chunk.stop)] == list(range(frames))
    for chunk in chunks:
        assert 1 <= chunk.stop - chunk.start <= (chunk_frames or frames)
        assert chunk.read_start == max(0, chunk.start - 3) and chunk.read_stop == min(frames, chunk.stop + 5)
        assert list(range(chunk.read_start, chunk.read_stop))[chunk.own()] == list(range(chunk.start, chunk.stop))
    assert longest_window(frames, chunk_frames, Context(3, 5)) == max(chunk.read_frames for chunk in chunks)


def test_chunks_differ_in_size_by_one_frame_at_most():
    sizes = [chunk.stop - chunk.start for chunk in plan_chunks(501, 250, Context(10, 10))]
    assert sizes == [167, 167, 167]


@pytest.mark.parametrize("chunk_frames", [0, -4])
def test_a_chunk_without_frames_is_refused(chunk_frames):
    with pytest.raises(InputError, match="at least 1 frame"):
        plan_chunks(10, chunk_frames, Context(1, 1))


def test_walk_reports_after_each_chunk_and_lets_the_callback_cancel():
    chunks = plan_chunks(4, 2, Context(0, 0))
    reports, seen = [], []
    for sample, chunk in walk(2, chunks, lambda done, total: reports.append((done, total))):
        seen.append((sample, chunk.start))
        assert len(reports) == len(seen) - 1
    assert seen == [(0, 0), (0, 2), (1, 0), (1, 2)]
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def cancel(done, total):
        raise Cancelled

    steps = walk(2, chunks, cancel)
    next(steps)
    with pytest.raises(Cancelled):
        next(steps)
