"""Loudness (ITU-R BS.1770, in LUFS) and true peak (dBTP): measured by FFmpeg's ebur128, set by gain and a limiter."""

import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from .filters import add_filter, filtered_blocks, run_filters

QUIETEST, LOUDEST = -60.0, -5.0  # LUFS that may be asked for
LOWEST_CEILING = -20.0  # dBTP; FFmpeg's limiter goes no further than -24
BLOCK = 0.4  # seconds of sound that loudness is defined for
SILENCE = -70.0  # LUFS at and below which nothing counts as sound
_NEAR = 0.1  # LU within which the target counts as met, and 0.5 is what users are promised
_ROUNDS = 8
_LEAST_SLOPE, _STEP = 0.2, 10.0  # of loudness over gain where a limiter works, and the most gain added in a round, dB
_OVERSAMPLING, _METER_OVERSAMPLING = 4, 8  # 4 can read peaks of noise 0.2 dB too low
_EDGE = 64  # samples of silence around, so that peaks at the very ends are seen whole
_MARGIN = 0.05  # dB that other meters may read higher
_HEARD = 6.0  # dB that hits can be limited by and still sound like hits


@dataclass(frozen=True)
class Level:
    """Integrated loudness in LUFS and true peak in dBTP; both -inf for silence."""

    loudness: float
    true_peak: float


def measure(waveform: torch.Tensor, sample_rate: int) -> Level:
    """The level of float [1 or 2, N]. A sound under 0.4 s is measured as if silence followed up to there."""
    return Level(_integrated(waveform, sample_rate), true_peak(waveform, sample_rate))


def _integrated(waveform: torch.Tensor, sample_rate: int) -> float:
    """LUFS of all blocks that count: FFmpeg's own sum takes three that begin before the sound, as if it were faded in."""
    block = round(BLOCK * sample_rate)
    waveform = F.pad(waveform, (0, max(block - waveform.shape[1], 0)))
    with tempfile.TemporaryDirectory() as folder:
        # Through a file, since PyAV before 15 does not show what filters note on their frames.
        notes = Path(folder) / "levels"

        def build(graph, sources):
            meter = add_filter(graph, sources[0], "ebur128", metadata=1, framelog="quiet")
            return add_filter(graph, meter, "ametadata", mode="print", key="lavfi.r128.M", file=notes)

        for _ in filtered_blocks([waveform], sample_rate, build, waveform.shape[0], sample_rate):
            pass
        momentary = re.findall(r"^lavfi\.r128\.M=(\S+)", notes.read_text(), re.MULTILINE)
    blocks = [10 ** (float(level) / 10) for level in momentary[3:] if float(level) > SILENCE]
    if not blocks:
        return -math.inf
    gate = sum(blocks) / len(blocks) / 10  # 10 LU below the loudness of them all
    blocks = [power for power in blocks if power > gate]
    return 10 * math.log10(sum(blocks) / len(blocks))


def true_peak(waveform: torch.Tensor, sample_rate: int) -> float:
    """dBTP of float [1 or 2, N], -inf for silence."""
    fine = sample_rate * _METER_OVERSAMPLING

    def build(graph, sources):
        return add_filter(graph, sources[0], "aresample", out_sample_rate=fine)

    waveform = F.pad(waveform, (_EDGE, _EDGE))
    blocks = filtered_blocks([waveform], sample_rate, build, waveform.shape[0], fine)
    peak = max((float(np.abs(block).max()) for block in blocks if block.size), default=0.0)
    return 20 * math.log10(peak) if peak > 0 else -math.inf


def check_target(loudness: float | None, true_peak: float) -> None:
    """InputError for what cannot be asked for."""
    if loudness is not None and not QUIETEST <= loudness <= LOUDEST:
        raise InputError(
            f"The loudness asked for is {loudness:g} LUFS.", f"It must lie between {QUIETEST:g} and {LOUDEST:g} LUFS.",
            "Broadcast wants -23, streaming about -14.",
        )
    if not LOWEST_CEILING <= true_peak <= 0:
        raise InputError(
            f"The true-peak ceiling is {true_peak:g} dBTP.", f"It must lie between {LOWEST_CEILING:g} and 0 dBTP.",
            "-1 is usual.",
        )


def with_loudness(
    waveform: torch.Tensor, sample_rate: int, loudness: float, true_peak: float
) -> tuple[torch.Tensor, Level, list[str]]:
    """The sound at a loudness with no true peak above a ceiling.

    One gain for the whole sound, and a limiter at four times the rate where peaks would pass the ceiling; as that makes
    it quieter, gain and ceiling are corrected until the meter agrees.

    Args:
        waveform: float [1 or 2, N].
        loudness, true_peak: LUFS and dBTP.

    Returns:
        The sound [1 or 2, N], its level, and what to tell the user: silence stays as it is, and a loudness that the
        ceiling does not allow is missed from below.
    """
    before = measure(waveform, sample_rate)
    if before.loudness == -math.inf:
        return waveform, before, [f"The sound is silent (below {SILENCE:g} LUFS), so its loudness was left as it is."]
    tried, reached, gain = 0.0, before.loudness, loudness - before.loudness
    for _ in range(_ROUNDS):
        made, level = _at_gain(waveform, sample_rate, gain, true_peak, before)
        missing = loudness - level.loudness
        slope = (level.loudness - reached) / (gain - tried) if gain != tried else 1.0
        if abs(missing) <= _NEAR:
            break
        tried, reached, gain = gain, level.loudness, gain + min(missing / min(max(slope, _LEAST_SLOPE), 1.0), _STEP)
    return made, level, _told(loudness, true_peak, before.true_peak + gain, level)


def _at_gain(waveform, sample_rate: int, gain: float, true_peak: float, before: Level) -> tuple[torch.Tensor, Level]:
    """The sound with `gain` in dB, limited where its true peak would pass `true_peak` dBTP."""
    if before.true_peak + gain <= true_peak:
        return waveform * 10 ** (gain / 20), Level(before.loudness + gain, before.true_peak + gain)
    made = _limited(waveform, sample_rate, gain, true_peak)
    level = measure(made, sample_rate)
    over = max(level.true_peak - true_peak + _MARGIN, 0.0)  # what leaving the higher rate adds to the peaks again
    return made * 10 ** (-over / 20), Level(level.loudness - over, level.true_peak - over)


def _told(loudness: float, true_peak: float, unlimited: float, level: Level) -> list[str]:
    if abs(loudness - level.loudness) > 0.5:
        return [
            f"{loudness:g} LUFS cannot be had under a true peak of {true_peak:g} dBTP: the sound is at "
            f"{level.loudness:.1f} LUFS. Ask for less, or duck or lower what is loudest in it."
        ]
    cut = unlimited - true_peak
    if cut > _HEARD:
        return [
            f"For {loudness:g} LUFS under {true_peak:g} dBTP the highest peaks were limited by {cut:.1f} dB, which may be "
            "heard. Ask for less loudness to keep them."
        ]
    return []


def _limited(waveform: torch.Tensor, sample_rate: int, gain: float, limit: float) -> torch.Tensor:
    def build(graph, sources):
        louder = add_filter(graph, sources[0], "volume", volume=f"{gain}dB", precision="float")
        fine = add_filter(graph, louder, "aresample", out_sample_rate=sample_rate * _OVERSAMPLING)
        limited = add_filter(
            graph, fine, "alimiter", limit=10 ** (limit / 20), attack=5, release=100, level=0, latency=1
        )
        return add_filter(graph, limited, "aresample", out_sample_rate=sample_rate)

    return run_filters([waveform], sample_rate, build, waveform.shape[0])
