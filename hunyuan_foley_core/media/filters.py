"""Whole sounds through FFmpeg's own filters, by PyAV's filter graph."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

import av
import av.filter
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import MediaError
from .output import LAYOUTS, audio_frame

_BLOCK = 1 << 14  # samples handed to a graph at a time

Build = Callable[[av.filter.Graph, list], object]  # (graph, a source for each sound) -> the filter that comes last


def run_filters(sounds: Sequence[torch.Tensor], sample_rate: int, build: Build, channels: int) -> torch.Tensor:
    """What comes out of a graph of filters.

    Args:
        sounds: float [channels, N] each, all of one length.
        build: adds filters behind the sources and returns the last.
        channels: of the result.

    Returns:
        float32 [channels, N]; what a filter adds at the end is cut, what it keeps back is silent.

    MediaError where this build of FFmpeg lacks a filter.
    """
    length = sounds[0].shape[1]
    blocks = list(filtered_blocks(sounds, sample_rate, build, channels, sample_rate))
    made = torch.from_numpy(np.concatenate(blocks, axis=1)) if blocks else torch.zeros(channels, 0)
    return F.pad(made, (0, length - made.shape[1]))


def filtered_blocks(
    sounds: Sequence[torch.Tensor], sample_rate: int, build: Build, channels: int, out_rate: int
) -> Iterator[np.ndarray]:
    """The same piece by piece, float32 [channels, n], at whatever rate: for what is too long to be held."""
    graph = av.filter.Graph()
    sources = [_source(graph, sound, sample_rate) for sound in sounds]
    last = add_filter(
        graph, build(graph, sources), "aformat",
        sample_fmts="flt", sample_rates=out_rate, channel_layouts=LAYOUTS[channels],
    )
    sink = add_filter(graph, last, "abuffersink")
    graph.configure()
    yield from _through(sources, sounds, sample_rate, sink)  # in here, as the graph must outlive its filters


def add_filter(graph, inputs, name: str, /, **options):
    """A filter behind another one, or behind several: a list of filters, or of (filter, number of its output)."""
    if name not in av.filter.filters_available:
        raise MediaError(
            f"This build of FFmpeg (PyAV {av.__version__}) has no filter {name}.",
            "Mixing with ducking, loudness or width needs it.",
            "Install PyAV from PyPI (pip install --force-reinstall av), or leave these settings as they are by default.",
        )
    added = graph.add(name, **{key: str(value) for key, value in options.items()})
    for place, entry in enumerate(inputs if isinstance(inputs, list) else [inputs]):
        filter_, output = entry if isinstance(entry, tuple) else (entry, 0)
        filter_.link_to(added, output, place)
    return added


def _source(graph, sound: torch.Tensor, sample_rate: int):
    return graph.add_abuffer(
        sample_rate=sample_rate, format="flt", layout=LAYOUTS[sound.shape[0]], time_base=Fraction(1, sample_rate)
    )


def _through(sources, sounds, sample_rate: int, sink) -> Iterator[np.ndarray]:
    """Feeds all sources in step, so that no filter has to keep much back; blocks [channels, n] as they come."""
    for at in range(0, sounds[0].shape[1], _BLOCK):
        for source, sound in zip(sources, sounds, strict=True):
            frame = audio_frame(sound[:, at : at + _BLOCK], sample_rate)
            frame.pts, frame.time_base = at, Fraction(1, sample_rate)
            source.push(frame)
        yield from _ready(sink)
    for source in sources:
        source.push(None)
    yield from _ready(sink)


def _ready(sink) -> Iterator[np.ndarray]:
    while True:
        try:
            frame = sink.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T
