"""Alignment with a frozen teacher, and the teacher that has no weights."""

import math

import pytest
import torch

from hunyuan_foley_core.timing import LATENT_HOP, SAMPLE_RATE
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.repa import Projector, alignment_loss
from hunyuan_foley_core.train.spectra import FLOOR
from hunyuan_foley_core.train.teachers import build_teacher
from hunyuan_foley_core.train.teachers.log_mel import BANDS


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# The loss


def test_alignment_is_minus_the_mean_cosine():
    features = noise(2, 10, 8)
    assert alignment_loss(3 * features, features).item() == pytest.approx(-1)
    assert alignment_loss(-features, features).item() == pytest.approx(1)
    half = torch.cat([features[:, :5], -features[:, 5:]], dim=1)
    assert alignment_loss(half, features).item() == pytest.approx(0, abs=1e-6)


def test_features_of_half_the_rate_lie_between_their_frames():
    """Frames 0, 1, 2, 3 at 25 Hz have their centres at 0.5, 2.5, 4.5, 6.5 frames of 50 Hz."""
    angles = 0.3 * torch.arange(4.0)
    features = torch.stack([angles.cos(), angles.sin()], dim=-1)[None]
    weights = torch.tensor([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])
    low, share = weights.long().clamp(max=2), weights - weights.long().clamp(max=2)
    between = torch.lerp(features[0, low], features[0, low + 1], share[:, None])[None]
    assert alignment_loss(between, features).item() == pytest.approx(-1, abs=1e-6)
    assert alignment_loss(between.roll(1, dims=1), features).item() > -0.999


def test_silent_features_give_a_finite_gradient():
    projected = noise(1, 4, 8).requires_grad_()
    alignment_loss(projected, torch.zeros(1, 4, 8)).backward()
    assert projected.grad.isfinite().all()


def test_the_projector_learns_to_agree():
    torch.manual_seed(0)
    projector, hidden, features = Projector(16, 32, 8), noise(2, 20, 16), noise(2, 20, 8, seed=1)
    assert projector(hidden).shape == (2, 20, 8)
    optimiser = torch.optim.Adam(projector.parameters(), lr=1e-2)
    for _ in range(80):
        loss = alignment_loss(projector(hidden), features)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < -0.9


# Log-mel


@pytest.fixture(scope="module")
def log_mel():
    return build_teacher("log_mel")


def test_a_frame_for_every_latent_frame(log_mel):
    assert log_mel.size == BANDS
    assert log_mel.features(noise(2, 1, 3 * LATENT_HOP)).shape == (2, 3, BANDS)
    assert log_mel.features(noise(1, 1, LATENT_HOP + 959)).shape == (1, 1, BANDS)


def test_a_click_is_loudest_in_its_own_frame(log_mel):
    waveform = torch.zeros(1, 1, 10 * LATENT_HOP)
    waveform[..., 6 * LATENT_HOP + LATENT_HOP // 2] = 1
    levels = log_mel.features(waveform)[0].mean(dim=1)
    assert levels.argmax() == 6
    assert levels[5].item() == pytest.approx(levels[7].item(), abs=1e-2)


def test_levels_are_in_decades_about_the_middle(log_mel):
    silence = log_mel.features(torch.zeros(1, 1, 4800))
    assert silence.unique().tolist() == [pytest.approx((math.log10(FLOOR) + 3) / 2)]
    time = torch.arange(9600) / SAMPLE_RATE
    loud, quiet = (log_mel.features(level * torch.sin(2000 * math.pi * time)[None, None])[0, 5] for level in (0.1, 0.01))
    assert 0.9 < loud.max() < 1.15  # a band adds up the bins a sine leaks into
    assert (loud.max() - quiet.max()).item() == pytest.approx(0.5, abs=1e-3)


def test_silence_and_sound_point_apart(log_mel):
    silence, sound = log_mel.features(torch.zeros(1, 1, 4800)), log_mel.features(0.3 * noise(1, 1, 4800))
    assert alignment_loss(silence, sound).item() > 0.5


def test_a_frame_does_not_depend_on_its_clip(log_mel):
    waveform = noise(1, 1, 20 * LATENT_HOP)
    whole, part = log_mel.features(waveform), log_mel.features(waveform[..., 5 * LATENT_HOP : 15 * LATENT_HOP])
    torch.testing.assert_close(whole[:, 6:14], part[:, 1:9])


# Choosing


def test_no_teacher_and_unknown_teachers():
    assert build_teacher("none") is None
    with pytest.raises(TrainingError, match="'clap'.*Known are none, log_mel, atst"):
        build_teacher("clap")
