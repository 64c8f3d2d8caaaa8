"""Windows over long clips: how they lie, what they see, and that fusing them is what it should be."""

import pytest
import torch

from hunyuan_foley_core import small_model
from hunyuan_foley_core.checkpoint import load_transformer
from hunyuan_foley_core.errors import CheckpointError, InputError
from hunyuan_foley_core.sampling import TIMESTEP_SCALE, linear_sigmas, make_noise, sample
from hunyuan_foley_core.timing import ClipTiming
from hunyuan_foley_core.velocity import KEPT_WINDOWS, TimedText, prepare_generation
from hunyuan_foley_core.windows import SEGMENT_LATENTS, WindowSettings, fuse, plan_windows, takes_whole, window_features

from .parity import cases, relative_error, weights

CASES = cases("sampling")
TEXT = {"text": CASES["text"], "negative_text": CASES["negative_text"]}
SMALL = WindowSettings(length=64, overlap=32, longest_whole=80)  # so that clips of a few seconds have many
CUTS = (100, 146, 1000)


@pytest.fixture(scope="module")
def transformer():
    return load_transformer(weights("mmdit"))


def features(frames, seed=5):
    counts, generator = ClipTiming.from_latent_frames(frames), torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(1, tokens, CASES[name].shape[-1], generator=generator)
        for name, tokens in (("visual", counts.visual_tokens), ("sync", counts.sync_tokens))
    }


LENGTHS = [1, 31, 400, 500, 501, 512, 704, 705, 999, 1500, 3200, 30_000]


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("settings", [WindowSettings(), SMALL, WindowSettings.from_seconds(4, 3.6)])
def test_windows_cover_a_clip_with_weights_that_sum_to_one(frames, settings):
    windows, sums = plan_windows(frames, settings), torch.zeros(frames)
    for window in windows:
        assert window.start % SEGMENT_LATENTS == 0 and len(window.weights) == window.stop - window.start
        assert (window.weights >= 0).all()
        sums[window.frames] += window.weights
    assert torch.allclose(sums, torch.ones(frames), atol=1e-6) and windows[-1].stop == frames
    if len(windows) > 1:
        lengths = [window.stop - window.start for window in windows]
        assert set(lengths[:-1]) == {settings.length} and settings.length - SEGMENT_LATENTS < lengths[-1] <= settings.length
        assert all(window.beyond == settings.length - length for window, length in zip(windows, lengths))
        shared = min(before.stop - after.start for before, after in zip(windows, windows[1:]))
        assert shared >= min(settings.overlap, settings.length - SEGMENT_LATENTS)


def test_hand_overs_are_smooth_and_away_from_the_ends():
    windows = plan_windows(3200)
    for window in windows:
        assert window.weights.diff().abs().max() < 0.02
    assert all(window.weights[0] < 1e-3 for window in windows[1:])
    assert len(windows) == 11 and plan_windows(500)[0].stop == 500


def test_no_window_reaches_over_a_cut():
    windows = plan_windows(2000, cuts=CUTS)
    assert {0, *CUTS} <= {window.start for window in windows}
    for window in windows:
        assert not any(window.start < cut < window.stop for cut in CUTS)
    sums = sum(torch.nn.functional.pad(w.weights, (w.start, 2000 - w.stop)) for w in windows)
    assert torch.allclose(sums, torch.ones(2000), atol=1e-6)


def test_weights_say_in_which_windows_they_are_best():
    said = {"windows": {"length": 3.96, "overlap": 0.96, "longest_whole": 8}}
    assert WindowSettings.of_weights(said, "x") == WindowSettings(198, 48, 400)
    assert WindowSettings.of_weights({}, "x") == WindowSettings()
    small = load_transformer(small_model.FOLDER / small_model.TRANSFORMER)
    assert small.windows == WindowSettings(198, 48, 400) and len(plan_windows(598, small.windows)) > 2
    assert load_transformer(weights("mmdit")).windows == WindowSettings()


@pytest.mark.parametrize("said", [
    {}, 8, {"length": 3.96}, {"length": "long", "overlap": 1, "longest_whole": 8}, {"length": 1, "overlap": 1, "longest_whole": 8},
    {"length": float("nan"), "overlap": 1, "longest_whole": 8}, {"length": 4, "overlap": 1, "longest_whole": float("inf")},
])
def test_windows_that_cannot_be_laid_out_are_refused_with_the_file(said):
    with pytest.raises(CheckpointError, match="metadata of x.safetensors"):
        WindowSettings.of_weights({"windows": said}, "x.safetensors")


@pytest.mark.parametrize("frames", [99, 100, 120, 900])
def test_sound_that_ends_before_the_last_scene_has_windows_up_to_its_end(frames):
    short, whole = plan_windows(frames, cuts=CUTS), plan_windows(2000, cuts=CUTS)
    assert short[-1].stop == frames
    begun = {window.start: (window.visual, window.sync) for window in whole}
    for window in (window for window in short if window.start in (0, *CUTS)):
        assert begun[window.start] == (window.visual, window.sync)


def test_a_window_sees_the_features_of_its_own_time():
    """Tokens that carry their number: segment k begins at latent frame 16 k, picture j at 6.25 j."""
    counts = ClipTiming.from_latent_frames(1000)
    visual, sync = (torch.arange(n).float()[None, :, None] for n in (counts.visual_tokens, counts.sync_tokens))
    for window in plan_windows(1000):
        seen, heard = window_features(visual, sync, window)
        assert abs(seen[0, 0, 0] * 6.25 - window.start) <= 3.2
        assert heard[0, 0, 0] == window.start // 16 * 8
        assert (seen.shape[1], heard.shape[1]) == (window.timing.visual_tokens, window.timing.sync_tokens)


def test_the_last_window_is_shown_as_long_as_the_others():
    """478 frames in windows of 198: eight frames go back again behind the end, and a segment that is not there is held."""
    windows = plan_windows(478, WindowSettings(198, 48, 400))
    last, counts = windows[-1], ClipTiming.from_latent_frames(478)
    assert (last.start, last.stop, last.beyond) == (288, 478, 8) and {window.timing for window in windows} == {last.timing}
    shown = last.shown(torch.arange(478.0))
    assert shown.tolist() == [*range(288, 478), *range(476, 468, -1)]
    visual, sync = (torch.arange(n).float()[None, :, None] for n in (counts.visual_tokens, counts.sync_tokens))
    seen, heard = window_features(visual, sync, last)
    pictures = list(range(46, counts.visual_tokens))
    assert seen[0, :, 0].tolist() == pictures + pictures[-1:] and len(seen[0]) == 31
    tokens = list(range(144, counts.sync_tokens))
    assert heard[0, :, 0].tolist() == tokens + tokens[-8:] and len(heard[0]) == 88
    assert plan_windows(400, WindowSettings(198, 48, 400))[0].beyond == 0
    velocities = [torch.full((1, 198), float(number)) for number in range(3)]
    velocities[-1][:, 190:] = torch.nan  # what is made of the frames beyond the end is not looked at
    assert fuse(windows, velocities).shape == (1, 478) and fuse(windows, velocities)[0, -1] == 2


def test_scenes_have_features_of_their_own():
    scenes = [ClipTiming.from_latent_frames(n) for n in (100, 46, 854, 1000)]
    visual = torch.cat([torch.full((1, scene.visual_tokens, 1), float(i)) for i, scene in enumerate(scenes)], dim=1)
    sync = torch.cat([torch.full((1, scene.sync_tokens, 1), float(i)) for i, scene in enumerate(scenes)], dim=1)
    for window in plan_windows(2000, cuts=CUTS):
        scene = sum(window.start >= cut for cut in CUTS)
        assert all((part == scene).all() and part.shape[1] for part in window_features(visual, sync, window))


def test_a_picture_that_ends_too_early_is_refused():
    long, short = plan_windows(1000)[-1], features(800)
    with pytest.raises(InputError, match="ends about 3.8 s before 20.0 s"):
        window_features(short["visual"], short["sync"], long)


def test_one_window_is_refused_a_short_picture_and_takes_the_beginning_of_a_long_one(transformer):
    def made(seen):
        return sample(transformer, make_noise(1, 16, 100, seed=2), **TEXT, **seen, steps=1)

    with pytest.raises(InputError, match="ends about 1.3 s before 2.0 s"):
        made(features(40))
    long = features(400)
    assert torch.equal(made(long), made({"visual": long["visual"][:, :16], "sync": long["sync"][:, :40]}))
    # Counts as released, 98 latent frames for 16 pictures at 8 a second, and half a second more of picture, are all seen.
    assert [takes_whole(sync, 98) for sync in (24, 32, 40, 48, 56)] == [False, True, True, True, False]


@pytest.mark.parametrize("length, overlap", [(8.0, 8.0), (8.0, 0.0), (0.2, 0.1), (8.0, 7.9)])
def test_windows_that_cannot_go_on_are_refused(length, overlap):
    with pytest.raises(InputError, match="8 and 1.92"):
        WindowSettings.from_seconds(length, overlap)


def plain(transformer, noise, steps, visual, sync):
    """The published loop, without windows."""
    with torch.inference_mode():
        both, _ = prepare_generation(transformer, noise, [TEXT["text"]], [TEXT["negative_text"]], visual, sync)
        latents, sigmas = noise, linear_sigmas(steps)
        for sigma, following in zip(sigmas[:-1], sigmas[1:]):
            velocity = transformer.denoise(torch.cat((latents, latents)), (sigma * TIMESTEP_SCALE).expand(2), both)
            unconditional, conditional = velocity.chunk(2)
            latents = latents + (unconditional + 4.5 * (conditional - unconditional)) * (following - sigma)
    return latents


def test_a_clip_in_one_window_is_bit_for_bit_the_published_loop(transformer):
    noise, seen = make_noise(1, 16, 500, seed=1), features(500)
    assert torch.equal(sample(transformer, noise, **TEXT, **seen, steps=2), plain(transformer, noise, 2, **seen))


def fused_by_hand(transformer, noise, windows, seen):
    """One step from pure noise to sound."""
    total = torch.zeros_like(noise)
    for window in windows:
        part, length = window.shown(noise), window.stop - window.start
        visual, sync = window_features(seen["visual"], seen["sync"], window)
        total[..., window.frames] += (part - plain(transformer, part, 1, visual, sync))[..., :length] * window.weights
    return noise - total


@pytest.mark.parametrize("frames, cuts", [(200, ()), (200, (70, 130)), (64 + 32 * KEPT_WINDOWS + 32, ())])
def test_windows_are_fused_by_their_weights(transformer, frames, cuts):
    windows, noise = plan_windows(frames, SMALL, cuts), make_noise(1, 16, frames, seed=2)
    lengths = [b - a for a, b in zip((0, *cuts), (*cuts, frames))]
    seen = {name: torch.cat([features(n, seed=n)[name] for n in lengths], dim=1) for name in ("visual", "sync")}
    found = sample(transformer, noise, **TEXT, **seen, steps=1, windows=windows)
    assert len(windows) > 2 and relative_error(found, fused_by_hand(transformer, noise, windows, seen)) <= 1e-6


def test_what_happens_in_one_scene_changes_nothing_in_another(transformer):
    windows, noise = plan_windows(200, SMALL, (100,)), make_noise(1, 16, 200, seed=2)
    other = torch.cat((noise[..., :100], make_noise(1, 16, 100, seed=3)), dim=-1)
    first, second = (sample(transformer, x, **TEXT, steps=2, windows=windows) for x in (noise, other))
    assert torch.equal(first[..., :100], second[..., :100])


def test_prompts_share_the_frames_by_their_weights(transformer):
    """Two prompts and a hand-over between them: before it the sound of the one alone, behind it that of the other."""
    noise, generator = make_noise(1, 16, 60, seed=4), torch.Generator().manual_seed(6)
    other = torch.randn(TEXT["text"].shape, generator=generator)
    share = torch.cat((torch.ones(20), torch.linspace(1, 0, 20), torch.zeros(20)))
    timed = [TimedText(TEXT["text"], share), TimedText(other, 1 - share)]

    def one_step(text):
        return sample(transformer, noise, text=text, negative_text=TEXT["negative_text"], steps=1)

    expected = share * one_step(TEXT["text"]) + (1 - share) * one_step(other)
    assert relative_error(one_step(timed), expected) <= 1e-6


def test_negative_prompts_can_be_timed_too(transformer):
    noise, share = make_noise(1, 16, 60, seed=4), torch.linspace(1, 0, 60)
    timed = [TimedText(TEXT["negative_text"], share), TimedText(TEXT["text"], 1 - share)]

    def one_step(negative):
        return sample(transformer, noise, text=TEXT["text"], negative_text=negative, steps=1)

    expected = share * one_step(TEXT["negative_text"]) + (1 - share) * one_step(TEXT["text"])
    assert relative_error(one_step(timed), expected) <= 1e-6


def test_only_prompts_alive_in_a_window_are_computed(transformer, monkeypatch):
    """Twelve prompts, each alive for a twelfth of the clip: no window has more than a few."""
    windows, frames, batches = plan_windows(600, SMALL), torch.arange(600), []
    timed = [TimedText(TEXT["text"], ((frames // 50) == number).float()) for number in range(12)]
    denoise = transformer.denoise
    monkeypatch.setattr(transformer, "denoise", lambda x, *rest: batches.append(len(x)) or denoise(x, *rest))
    noise = make_noise(1, 16, 600, seed=1)
    sample(transformer, noise, text=timed, negative_text=TEXT["negative_text"], steps=1, windows=windows)
    assert len(batches) == len(windows) and max(batches) <= 1 + 3
