"""What the DAC-VAE keeps of true sounds, beside plain 16-bit samples at 16 kHz."""

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor

from .. import checkpoint, media
from ..data import Clip, scoring
from ..timing import SAMPLE_RATE
from ..train import metrics
from ..vae.dac import DACVAE
from . import hearing
from .rows import Bench, Row, main_takes

BASELINE_RATE = 16_000
KEPT = 0.005  # seconds an onset may move
_LEVELS = 2**15 - 1


def codec_rows(bench: Bench) -> list[Row]:
    """On the sounds of the main set's clips in which something hits."""
    vae = checkpoint.load_vae(bench.takes.files.vae)
    clips = [clip for clip in (take.clip() for take in main_takes(bench.plan)) if clip.events]
    ours, plain = (measure(clips, codec) for codec in (lambda sound: through_vae(vae, sound), through_samples))
    figure = (
        f"mel distance {ours['mel_distance']:.3f} (16 kHz: {plain['mel_distance']:.3f}), SI-SDR {ours['si_sdr_db']:.1f} dB "
        f"({plain['si_sdr_db']:.1f} dB), onsets kept within 5 ms {ours['onsets_kept']:.3f} ({plain['onsets_kept']:.3f}), "
        f"median shift {1000 * ours['median_shift_s']:.1f} ms, hits by material {ours['softest_db']:+.1f} to "
        f"{ours['loudest_db']:+.1f} dB in level; {len(clips)} clips"
    )
    kept = ours["onsets_kept"]
    values = {"value": kept, **ours} | {f"baseline_{name}": value for name, value in plain.items()}
    what = "DAC-VAE on held-out sounds, beside 16 bit at 16 kHz"
    return [Row("codec", what, figure, "0.95 of the onsets within 5 ms", kept >= 0.95, values)]


@torch.inference_mode()
def measure(clips: list[Clip], codec: Callable[[Tensor], Tensor]) -> dict[str, float]:
    """Means over clips of what a codec, [1,1,N] to the same, does to their sounds.

    Returns:
        mel_distance and si_sdr_db of `train.metrics`; onsets_kept, the share of the onsets found in the original that
        are found again within 5 ms; median_shift_s of those; softest_db and loudest_db, the least and the greatest change
        of level that a material's hits come to, its median.
    """
    distances, ratios, scores, changes = [], [], [], []
    for clip in clips:
        before = clip.waveform[None, None]
        after = codec(before)
        distances.append(metrics.mel_distance(after, before).item())
        ratios.append(metrics.si_sdr(after, before).item())
        found = [scoring.onsets(sound[0, 0].numpy()) for sound in (after, before)]
        scores.append(scoring.compare(*found, KEPT))
        changes += _changes(clip, *(sound[0, 0].numpy() for sound in (after, before)))
    score, by_material = scoring.total(scores), _medians(changes)
    return {
        "mel_distance": float(np.mean(distances)),
        "si_sdr_db": float(np.mean(ratios)),
        "onsets_kept": score.matched / score.true if score.true else float("nan"),
        "median_shift_s": score.median_offset,
        "softest_db": min(by_material, default=float("nan")),
        "loudest_db": max(by_material, default=float("nan")),
    }


def _changes(clip: Clip, after: np.ndarray, before: np.ndarray) -> list[tuple[str, float]]:
    """Material and change of peak level in dB of each hit."""
    times = [event.time for event in clip.events]
    louder = hearing.levels(after, times) / hearing.levels(before, times)
    return [(event.material, change) for event, change in zip(clip.events, 20 * np.log10(louder + 1e-6), strict=True)]


def _medians(changes: Iterable[tuple[str, float]]) -> list[float]:
    by_material = defaultdict(list)
    for material, change in changes:
        by_material[material].append(change)
    return [float(np.median(found)) for found in by_material.values()]


def through_vae(vae: DACVAE, waveform: Tensor) -> Tensor:
    """Encoded to the posterior's mean and decoded."""
    mean, _ = vae.encode(waveform)
    return vae.decode(mean)[..., : waveform.shape[-1]]


def through_samples(waveform: Tensor) -> Tensor:
    """At a third of the sample rate in 16-bit steps, and back."""
    low = media.resample(waveform[0], SAMPLE_RATE, BASELINE_RATE)
    stepped = (low * _LEVELS).round().clamp(-_LEVELS - 1, _LEVELS) / _LEVELS
    return media.resample(stepped, BASELINE_RATE, SAMPLE_RATE)[None, :, : waveform.shape[-1]]
