import pytest

from hunyuan_foley_core.timing import ClipTiming, latent_frames, samples, seconds_of_sync_frames, sync_segments


@pytest.mark.parametrize("seconds, counts", [
    (2.0, (100, 16, 40)), (8.0, (400, 64, 192)), (10.0, (500, 80, 240)), (15.04, (752, 120, 368)), (0.64, (32, 5, 8)),
    (4.1, (205, 32, 88)),  # 4.1 * 50 is 204.99999999999997 in floats
    (0.2, (10, 1, 8)),
])
def test_counts_of_a_length(seconds, counts):
    timing = ClipTiming.from_seconds(seconds)
    assert (timing.latent_frames, timing.visual_tokens, timing.sync_tokens) == counts
    assert timing.samples == counts[0] * 960


def test_seconds_and_latent_frames_agree_on_every_tick():
    for frames in range(16, 800):
        seconds = seconds_of_sync_frames(frames)
        assert latent_frames(seconds) == 2 * frames
        assert ClipTiming.from_seconds(seconds) == ClipTiming.from_latent_frames(2 * frames)


def test_segments_hold_short_clips_up_to_one():
    assert [sync_segments(n) for n in (1, 15, 16, 23, 24, 32)] == [1, 1, 1, 1, 2, 3]


def test_samples_of_other_rates():
    assert samples(1.5) == 72_000 and samples(1.0, 44_100) == 44_100
