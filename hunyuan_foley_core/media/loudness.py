"""Loudness (ITU-R BS.1770, in LUFS) and true peak (dBTP): measured by FFmpeg's ebur128, set by gain and a limiter."""

import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from ..errors import InputError
from .filters import add_filter, run_filters

QUIETEST, LOUDEST = -60.0, -5.0  # LUFS that may be asked for
LOWEST_CEILING = -20.0  # dBTP; FFmpeg's limiter goes no further than -24
BLOCK = 0.4  # seconds of sound that loudness is defined for
SILENCE = -70.0  # LUFS at and below which nothing counts as sound
_NEAR = 0.1  # LU within which the target counts as met, and 0.5 is what users are promised
_ROUNDS = 6
_OVERSAMPLING = 4
_TAIL = 0.1  # seconds: the meter speaks after each tenth, and the last one must be whole


@dataclass(frozen=True)
class Level:
    """Integrated loudness in LUFS and true peak in dBTP; both -inf for silence."""

    loudness: float
    true_peak: float


def measure(waveform: torch.Tensor, sample_rate: int) -> Level:
    """The level of float [1 or 2, N]. A sound under 0.4 s is measured as if silence followed up to there."""
    tail = max(round(BLOCK * sample_rate) - waveform.shape[1], round(_TAIL * sample_rate))
    with tempfile.TemporaryDirectory() as folder:
        # Through a file, since PyAV before 15 does not show what filters note on their frames.
        notes = Path(folder) / "levels"

        def build(graph, sources):
            meter = add_filter(graph, sources[0], "ebur128", metadata=1, peak="true", framelog="quiet")
            return add_filter(graph, meter, "ametadata", mode="print", file=notes)

        run_filters([F.pad(waveform, (0, tail))], sample_rate, build, waveform.shape[0])
        noted = notes.read_text()
    loudness = _last(noted, "I")
    peak = _last(noted, "true_peak")
    return Level(loudness if loudness > SILENCE else -math.inf, 20 * math.log10(peak) if peak > 0 else -math.inf)


def _last(noted: str, name: str) -> float:
    return float(re.findall(rf"^lavfi\.r128\.{name}=(\S+)", noted, re.MULTILINE)[-1])


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
    gain, limit = loudness - before.loudness, true_peak
    for _ in range(_ROUNDS):
        made = _limited(waveform, sample_rate, gain, limit, before.true_peak)
        level = measure(made, sample_rate)
        missing, over = loudness - level.loudness, level.true_peak - true_peak
        if over <= 0 and abs(missing) <= _NEAR:
            break
        gain, limit = gain + missing, limit - max(over + 0.01, 0.0) if over > 0 else limit
    if over > 0:  # by hundredths of a dB that the limiter leaves
        made = made * 10 ** (-(over + 0.01) / 20)
        level = Level(level.loudness - over - 0.01, true_peak - 0.01)
    return made, level, _told(loudness, true_peak, before, level)


def _told(loudness: float, true_peak: float, before: Level, level: Level) -> list[str]:
    if abs(loudness - level.loudness) > 0.5:
        return [
            f"{loudness:g} LUFS cannot be had under a true peak of {true_peak:g} dBTP: the sound is at "
            f"{level.loudness:.1f} LUFS. Ask for less, or duck or lower what is loudest in it."
        ]
    cut = before.true_peak + loudness - before.loudness - true_peak
    if cut > 6:
        return [
            f"For {loudness:g} LUFS under {true_peak:g} dBTP the highest peaks were limited by {cut:.1f} dB, which may be "
            "heard. Ask for less loudness to keep them."
        ]
    return []


def _limited(waveform: torch.Tensor, sample_rate: int, gain: float, limit: float, peak: float) -> torch.Tensor:
    """With `gain` in dB; true peaks above `limit` dBTP are turned down where there are any."""
    if peak + gain <= limit:
        return waveform * 10 ** (gain / 20)

    def build(graph, sources):
        louder = add_filter(graph, sources[0], "volume", volume=f"{gain}dB", precision="float")
        fine = add_filter(graph, louder, "aresample", out_sample_rate=sample_rate * _OVERSAMPLING)
        limited = add_filter(
            graph, fine, "alimiter", limit=10 ** (limit / 20), attack=5, release=100, level=0, latency=1
        )
        return add_filter(graph, limited, "aresample", out_sample_rate=sample_rate)

    return run_filters([waveform], sample_rate, build, waveform.shape[0])
