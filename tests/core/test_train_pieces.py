"""Cutting cached clips, and the spectral latents that a small codec is trained towards."""

import math

import pytest
import torch

from hunyuan_foley_core.data import make_clip
from hunyuan_foley_core.timing import LATENT_HOP, ClipTiming
from hunyuan_foley_core.train import shards
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.features import CachedClips, FeatureConfig
from hunyuan_foley_core.train.pieces import SEGMENT_LATENTS, cut, starts
from hunyuan_foley_core.train.spectral_latents import CENTRE, SCALE, SpectralLatents
from tests import videos

SECONDS = 8
QUARTER = LATENT_HOP // 4


def clip_tensors(seconds=SECONDS):
    """A clip whose features count: latent frames, pictures and sync tokens by their numbers in the clip."""
    timing = ClipTiming.from_seconds(seconds)
    counts = {"mean": timing.latent_frames, "visual": timing.visual_tokens, "sync": timing.sync_tokens}
    numbers = {name: torch.arange(count).float()[:, None] for name, count in counts.items()}
    numbers["mean"], numbers["logvar"] = numbers["mean"].T.contiguous(), numbers["mean"].T.clone()
    return numbers | {"teacher": torch.arange(2 * timing.latent_frames)[:, None], "text": torch.zeros(3, 1)}


def shapes(tensors):
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("seconds", [0.64, 1.0, 2.0, 3.3, 8.0])
def test_a_piece_has_the_counts_of_a_clip_of_its_length(seconds):
    tensors, timing = clip_tensors(), ClipTiming.from_seconds(seconds)
    for segment in range(starts(shapes(tensors), timing.latent_frames)):
        piece = cut(tensors, segment, timing.latent_frames)
        assert piece["mean"].shape == piece["logvar"].shape == (1, timing.latent_frames)
        assert len(piece["visual"]) == timing.visual_tokens and len(piece["sync"]) == timing.sync_tokens
        assert len(piece["teacher"]) == 2 * timing.latent_frames and len(piece["text"]) == 3


def test_all_parts_of_a_piece_begin_together():
    """Segment 5 begins at picture 40 of 25 a second: 1.6 s, latent frame 80, sync token 40, teacher frame 160."""
    piece = cut(clip_tensors(), 5, 100)
    firsts = {name: piece[name].flatten()[0].item() for name in ("mean", "logvar", "sync", "teacher", "visual")}
    assert firsts == {"mean": 80, "logvar": 80, "sync": 40, "teacher": 160, "visual": 13}


def test_the_last_piece_ends_within_the_clip():
    tensors = clip_tensors(2.0)
    assert starts(shapes(tensors), 100) == 1
    assert starts(shapes(tensors), 101) == 0
    assert starts(shapes(tensors), 100 - SEGMENT_LATENTS) == 2


@pytest.fixture
def source(tmp_path):
    """Batches of two lengths from three clips of 2 s and one of 8 s."""
    cache = shards.create_cache(tmp_path, {"vae": "none"}, torch.zeros(2, 1))
    writer = shards.ShardWriter(tmp_path, 8)
    for number, seconds in enumerate((2.0, 2.0, 2.0, SECONDS)):
        tensors = clip_tensors(seconds)
        writer.add(shards.Record(f"{number}#0", "", str(number), "", 0.0, 0.0, 2, shapes(tensors)), tensors)
    writer.flush()
    clips = list(shards.open_cache(tmp_path).clips.values())
    return lambda *seconds: CachedClips(cache, clips, 2, 0, seconds)


def test_training_sees_all_places_of_a_clip(source):
    batches = [source(2.0, 4.0)(number) for number in range(200)]
    lengths = [batch["mean"].shape[-1] for batch in batches]
    assert 70 < lengths.count(100) < 130 and set(lengths) == {100, 200}
    begun = {int(first) for batch in batches for first in batch["mean"][:, 0, 0]}
    assert begun == set(range(0, 400 - 100 + 1, SEGMENT_LATENTS))
    assert {name for batch in batches if batch["mean"].shape[-1] == 200 for name in batch["names"]} == {"3"}


def test_clips_that_miss_a_length_by_a_moment_are_told_of(source, caplog):
    source(2.0, 4.0)
    source(2.0, 2.04)  # the one takes what the other leaves
    assert not caplog.records
    source(2.04, 2.04)
    assert len(caplog.records) == 1
    assert "3 of 4 clips are a little shorter than the 2.04 s of data.seconds" in caplog.text and "2 would take them" in caplog.text


def test_lengths_that_no_clip_has_are_refused(source, tmp_path):
    with pytest.raises(TrainingError, match="No clip of the cache has the 9 s"):
        source(2.0, 9.0)
    with pytest.raises(TrainingError, match="Expected lengths of 0.64 to 15 s"):
        FeatureConfig(str(tmp_path), 0, 1, (0.3,))


def test_a_piece_is_what_the_cut_video_gives(tmp_path):
    """Spectral latents of a piece, but for the frames at its ends, whose windows reach over them."""
    waveform = make_clip(3, 2.0).waveform[None, None]
    whole = SpectralLatents(64)(waveform)[0]
    part = SpectralLatents(64)(waveform[..., 32 * LATENT_HOP :])[0]
    piece = cut(clip_tensors(2.0) | {"mean": whole}, 2, 68)["mean"]
    assert torch.allclose(piece[:, 1:], part[:, 1:], atol=1e-4)


# Spectral latents


def test_silence_is_the_floor_and_ten_times_the_amplitude_one_scale_up():
    latents, tone = SpectralLatents(64), torch.from_numpy(videos.sine(0.4, frequency=1000.0))[None]
    silent = latents(torch.zeros_like(tone))
    assert silent.shape == (1, 64, 20) and torch.allclose(silent, torch.tensor(-SCALE * CENTRE), atol=1e-5)
    rise = latents(0.5 * tone) - latents(0.05 * tone)
    loudest = latents(0.5 * tone)[0, :40, 10].argmax()
    assert rise[0, loudest, 10].item() == pytest.approx(SCALE, rel=0.02)


def test_higher_tones_are_in_higher_bands():
    latents = SpectralLatents(64)
    heights = [
        latents(torch.from_numpy(videos.sine(0.4, frequency=frequency))[None])[0, :40, 10].argmax().item()
        for frequency in (200.0, 1000.0, 5000.0, 12000.0, 20000.0)
    ]
    assert heights == sorted(set(heights)) and heights[-1] > 35


@pytest.mark.parametrize("quarter", range(4))
def test_the_moment_within_a_frame_is_told(quarter):
    click = torch.zeros(1, 1, 20 * LATENT_HOP)
    click[..., 10 * LATENT_HOP + quarter * QUARTER + QUARTER // 2] = 0.5
    frame = SpectralLatents(64)(click)[0, 40:, 10].unflatten(0, (4, 6)).mean(-1)
    assert frame.argmax() == quarter


def test_too_few_channels_for_a_spectrum_are_refused():
    with pytest.raises(TrainingError, match="latent_channels is 8.*10 or more"):
        SpectralLatents(8)
    assert math.isfinite(SpectralLatents(10)(torch.zeros(1, 1, LATENT_HOP)).sum())
