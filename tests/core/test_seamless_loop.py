"""Loops: the joint is a place like any other, to the model and to the codec."""

import math

import pytest
import torch

from hunyuan_foley_core import checkpoint, small_model
from hunyuan_foley_core.conditions import VideoFeatures
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.sampling import make_noise, sample
from hunyuan_foley_core.seamless_loop import (
    around,
    check_loop,
    decode_loop,
    features_around,
    folded,
    lasting,
    loop_frames,
    margin_of,
)
from hunyuan_foley_core.timing import ClipTiming


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [32, 47, 64, 100, 400])
def test_what_is_laid_around_folds_back_to_itself(frames):
    x, margin = normal(0, 1, 3, frames), margin_of(frames)
    shown = around(x, margin)
    assert margin % 16 == 0 and 16 <= margin <= 32 and shown.shape[-1] == frames + 2 * margin
    assert torch.equal(shown[..., margin : margin + frames], x) and torch.equal(shown[..., :margin], x[..., -margin:])
    torch.testing.assert_close(folded(shown, margin), x)
    assert torch.equal(folded(x, 0), x) and torch.equal(around(x, 0), x)


def test_what_grows_with_the_position_falls_back_without_a_step():
    """A sound that the model would let die away: at the joint its end hands over to its beginning by and by."""
    frames, margin = 200, 32
    level = folded(torch.arange(frames + 2 * margin).float(), margin)
    steps = (level.roll(-1) - level).abs()
    assert steps.max() < 1.7 * frames / (2 * margin)  # steepest in the middle of a raised cosine
    assert (steps.roll(1)[:2] - steps[:2]).abs().max() < 0.1  # and the joint is no corner


def test_features_go_around_with_the_clip():
    frames, margin = 400, 32
    counts = ClipTiming.from_latent_frames(frames)
    visual, sync = normal(1, 1, counts.visual_tokens, 4), normal(2, 1, counts.sync_tokens, 4)
    shown = features_around(VideoFeatures(visual, sync, 8.0), frames, margin)
    expected = ClipTiming.from_latent_frames(frames + 2 * margin)
    assert (shown.visual.shape[1], shown.sync.shape[1]) == (expected.visual_tokens, expected.sync_tokens)
    # 0.64 s before the clip are two segments, its last two, and 5.12 pictures.
    assert torch.equal(shown.sync[:, 16 : 16 + counts.sync_tokens], sync)
    assert torch.equal(shown.sync[:, :8], sync[:, -8:])
    assert torch.equal(shown.visual[:, 5 : 5 + counts.visual_tokens], visual)
    assert torch.equal(shown.visual[:, :5], visual[:, -5:])


def test_a_video_with_cuts_is_no_loop():
    with pytest.raises(InputError, match="1 cuts"):
        features_around(VideoFeatures(normal(1, 1, 64, 4), normal(2, 1, 192, 4), 8.0, (200,)), 400, 32)


@pytest.mark.parametrize("seconds", [0.0, 0.63, float("nan")])
def test_loops_too_short_are_refused(seconds):
    with pytest.raises(InputError, match="loop is to be"):
        check_loop(seconds)


@pytest.fixture(scope="module")
def vae():
    return checkpoint.load_vae(small_model.FOLDER / small_model.VAE)


def test_turning_a_loop_turns_its_sound(vae):
    latents = normal(3, 1, vae.config.latent_channels, 40)
    sound = decode_loop(latents, vae.decode, 0.8)
    turned = decode_loop(latents.roll(7, -1), vae.decode, 0.8)
    torch.testing.assert_close(turned, sound.roll(7 * 960, -1), atol=1e-5, rtol=0)
    assert (vae.decode(latents.roll(7, -1)) - vae.decode(latents).roll(7 * 960, -1)).abs().max() > 1e-3


@pytest.mark.parametrize("seconds", [1.29, 1.3, 1.309])
def test_a_loop_is_as_long_as_asked_for_to_the_sample_and_still_has_no_seam(vae, seconds):
    frames = loop_frames(seconds)
    latents = normal(3, 1, vae.config.latent_channels, frames)
    as_decoded, sound = (decode_loop(latents, vae.decode, length) for length in (frames / 50, seconds))
    assert sound.shape[-1] == round(48_000 * seconds) and abs(sound.shape[-1] - as_decoded.shape[-1]) <= 480
    torch.testing.assert_close(sound.std(), as_decoded.std(), rtol=1e-3, atol=0)
    joint = (sound[..., 0] - sound[..., -1]).abs()
    assert joint <= 1.5 * (as_decoded[..., 0] - as_decoded[..., -1]).abs() + sound.diff().abs().median()


def test_a_whole_number_of_waves_stays_one():
    """A tone that goes around 300 times in 2 s, made 1 % longer."""
    tone = torch.sin(2 * math.pi * 300 * torch.arange(96_000).double() / 96_000)[None, None]
    longer = lasting(tone, 96_960)
    expected = torch.sin(2 * math.pi * 300 * torch.arange(96_960).double() / 96_960)[None, None]
    torch.testing.assert_close(longer, expected, atol=1e-9, rtol=0)
    assert torch.equal(lasting(tone, 96_000), tone)


def test_the_joint_of_a_loop_is_no_larger_step_than_others(vae):
    """With the trained weights, over six sounds: one of them may well hit something at the very joint."""
    transformer = checkpoint.load_transformer(small_model.FOLDER / small_model.TRANSFORMER, dtype=torch.float32)
    text = torch.zeros(1, 4, transformer.config.text_dim)

    def joint(seed, margin):
        noise = make_noise(1, vae.config.latent_channels, 64, seed)
        latents = sample(transformer, noise, text=text, negative_text=None, steps=4, margin=margin)
        steps = (latents.roll(-1, -1) - latents).norm(dim=1)[0]
        return float(steps[-1] / steps[:-1].quantile(0.95))

    looped, plain = (torch.tensor([joint(seed, margin) for seed in range(1, 7)]) for margin in (margin_of(64), 0))
    assert looped.median() < 0.8 and looped.sum() < 0.5 * plain.sum()
