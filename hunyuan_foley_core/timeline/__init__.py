"""One picture of a clip: frames, motion, windows, scenes, prompts, waveform, onsets and spectrogram on one time axis."""

from .draw import draw_timeline, save
from .lanes import Span
from .spans import spans_of
from .watch import Watched, watch

__all__ = ["Span", "Watched", "draw_timeline", "save", "spans_of", "watch"]
