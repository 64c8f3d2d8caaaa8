"""One sound goes down while another is heard."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..errors import InputError
from .filters import add_filter, run_filters

MAX_DEPTH_DB = 30.0
# A compressor's envelope falls as exp(-4 t / release). From a full-scale key down to exp(-4) that takes one release,
# and with its threshold there the gain has come back to nothing then, by the same number of dB each millisecond.
_THRESHOLD = 0.0183156
_THRESHOLD_DB = 34.744
# The corner at which a smoother of second order has settled within an attack: 9.5 / attack radians per second.
_CORNER = 1.512
# The presence of the key: fast enough for its first period, and held over the zero crossings of 30 Hz.
_PRESENT = dict(attack=1, release=60, ratio=9000, range=0, knee=1, detection="peak", link="maximum")


@dataclass(frozen=True)
class Ducking:
    """How far and how fast.

    Attributes:
        depth_db: how much quieter, 0 to 30 dB.
        attack_ms: how long before the other sound it begins to go down; it is down when that begins.
        release_ms: how long it takes to come back after the other sound has gone.
        threshold_db: level in dBFS (peak) above which the other sound counts as heard.
    """

    depth_db: float = 12.0
    attack_ms: float = 50.0
    release_ms: float = 400.0
    threshold_db: float = -40.0

    def __post_init__(self):
        for name, value, low, high in (
            ("depth of ducking", self.depth_db, 0, MAX_DEPTH_DB), ("attack of ducking", self.attack_ms, 1, 1000),
            ("release of ducking", self.release_ms, 1, 5000), ("threshold of ducking", self.threshold_db, -60, 0),
        ):
            if not low <= value <= high:
                unit = "ms" if high >= 1000 else "dB"
                raise InputError(f"The {name} is {value:g} {unit}.", f"It must lie between {low} and {high:g} {unit}.")


def ducked(waveform: torch.Tensor, key: torch.Tensor, sample_rate: int, ducking: Ducking) -> torch.Tensor:
    """`waveform` [channels, N], quieter wherever `key` [any channels, N] is heard; nothing is delayed."""
    if not ducking.depth_db or not waveform.numel():
        return waveform
    ahead = round(ducking.attack_ms / 1000 * sample_rate)
    lead = 2 * ahead  # in which filters that begin with silence settle
    length = waveform.shape[1] + lead
    loudest = key.abs().amax(dim=0, keepdim=True)[:, : waveform.shape[1]]
    loudest = F.pad(loudest, (lead, length - lead - loudest.shape[1]))
    # A detector that has met nothing but zeros takes the key for heard; this lies 180 dB below full scale.
    loudest = _loudest_ahead(loudest, ahead) + 1e-9
    channels = waveform.shape[0]

    def build(graph, sources):
        gain = _gain(graph, sources[1], ducking)
        spread = add_filter(graph, gain, "pan", args="|".join([f"{channels}c", *(f"c{c}=c0" for c in range(channels))]))
        return add_filter(graph, [sources[0], spread], "amultiply")

    return run_filters([F.pad(waveform, (lead, 0)), loudest], sample_rate, build, channels)[:, lead:]


def _loudest_ahead(levels: torch.Tensor, samples: int) -> torch.Tensor:
    """The greatest of each value of [1, N] and the `samples` after it."""
    reach = 0
    while reach < samples:
        step = min(reach + 1, samples - reach)
        levels = torch.maximum(levels, F.pad(levels[:, step:], (0, step)))
        reach += step
    return levels


def _gain(graph, key, ducking: Ducking):
    """The gain itself as a signal: 1 is what a compressor makes smaller, keyed by whether the key is heard."""
    copies = add_filter(graph, key, "asplit", outputs=3)
    ones = [add_filter(graph, (copies, output), "aeval", exprs="1", channel_layout="same") for output in (0, 1)]
    heard = add_filter(
        graph, [ones[0], (copies, 2)], "sidechaingate", threshold=10 ** (ducking.threshold_db / 20), **_PRESENT
    )
    gain = add_filter(
        graph, [ones[1], heard], "sidechaincompress", threshold=_THRESHOLD,
        ratio=1 / (1 - ducking.depth_db / _THRESHOLD_DB), attack=ducking.attack_ms / 2, release=ducking.release_ms,
        knee=1, detection="peak",
    )
    corner = _CORNER / (ducking.attack_ms / 2000)
    return add_filter(graph, gain, "lowpass", frequency=corner, width_type="q", width=0.5, poles=2)
