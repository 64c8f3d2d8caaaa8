"""Spectra, losses, metrics and discriminators on inputs whose answers are known."""

import math

import pytest
import torch

from hunyuan_foley_core.timing import SAMPLE_RATE
from hunyuan_foley_core.train import losses, metrics
from hunyuan_foley_core.train.discriminators import BAND_EDGES, PERIODS, WINDOWS, BandDiscriminator, Discriminators
from hunyuan_foley_core.train.spectra import FLOOR, log_mel, mel_bands, mel_filters, spectrum

ALL_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)


def sine(frequency=1000.0, amplitude=0.5, length=9600, batch=1):
    time = torch.arange(length) / SAMPLE_RATE
    return amplitude * torch.sin(2 * math.pi * frequency * time).expand(batch, 1, length)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [512, 2048])
def test_a_sine_has_its_amplitude_in_its_bin(window):
    frequency = 40 * SAMPLE_RATE / window
    magnitudes = spectrum(sine(frequency), window).abs()[0, :, 8:-8]
    assert magnitudes.argmax(dim=0).unique().tolist() == [40]
    assert magnitudes.max().item() == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("window", ALL_WINDOWS)
def test_every_mel_band_hears_something(window):
    filters = mel_filters(window)
    assert filters.shape == (mel_bands(window), window // 2 + 1)
    assert (filters.sum(dim=1) > 0.4).all() and filters.max() <= 1


def test_bands_are_those_of_the_paper():
    assert [mel_bands(window) for window in ALL_WINDOWS] == [5, 10, 20, 40, 80, 160, 320]


def test_silence_lies_on_the_floor():
    assert log_mel(spectrum(torch.zeros(1, 1, 4800), 512).abs()).unique().tolist() == [pytest.approx(math.log10(FLOOR))]


def test_filters_made_in_inference_can_be_trained_through():
    with torch.inference_mode():
        log_mel(spectrum(torch.zeros(1, 1, 4800), 416).abs())  # a window that nothing else uses
    sound = noise(1, 1, 4800).requires_grad_()
    log_mel(spectrum(sound, 416).abs()).sum().backward()
    assert sound.grad.abs().sum() > 0


def test_equal_sounds_have_no_distance():
    sound = 0.1 * noise(2, 1, 4800)
    assert [value.item() for value in losses.spectral_losses(sound, sound, ALL_WINDOWS, 1e-5)] == [0, 0]
    assert losses.waveform_loss(sound, sound) == 0
    assert metrics.mel_distance(sound, sound).tolist() == [0, 0]


def test_a_tenth_of_the_level_is_one_decade_of_mel_per_window():
    sound = 0.5 * noise(2, 1, 9600)
    mel, magnitude = losses.spectral_losses(0.1 * sound, sound, (512, 2048), 1e-5)
    assert mel.item() == pytest.approx(2, abs=1e-3) and magnitude.item() == pytest.approx(0.9, abs=1e-4)
    assert metrics.mel_distance(0.1 * sound, sound).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert metrics.level_error(0.1 * sound, sound).tolist() == pytest.approx([-20, -20], abs=1e-3)


def test_waveform_loss_counts_quiet_clips_like_loud_ones():
    loud = noise(1, 1, 4800)
    both = torch.cat([loud, 0.01 * loud])
    assert losses.waveform_loss(0.5 * both, both).item() == pytest.approx(0.5)


def hit(click, tail):
    """[1,1,N]: silence, 2 ms of one level, then another."""
    sound = torch.zeros(1, 1, 9600)
    sound[..., 4900:5000], sound[..., 5000:] = click, tail
    return sound


def test_peak_loss_hears_the_click_of_a_hit_and_little_of_what_follows():
    target = hit(0.5, 0.05)
    assert losses.peak_loss(target, target) == 0
    softer, shorter = hit(0.25, 0.05), hit(0.5, 0.0)
    expected = math.log10(0.51 / 0.26)
    assert losses.peak_loss(softer, target).item() == pytest.approx(expected, abs=1e-4)
    assert losses.peak_loss(shorter, target) == 0
    quiet = torch.zeros(1, 1, 9600)
    assert losses.peak_loss(target, quiet) == 0  # nothing hits, nothing is to be as loud as


def test_kl_is_that_of_two_normals():
    mean, logvar = torch.full((2, 3, 4), 2.0), torch.full((2, 3, 4), math.log(0.25))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(2.0, 0.5), normal(0.0, 1.0))
    assert losses.kl_divergence(mean, logvar).item() == pytest.approx(expected.item())
    assert losses.kl_divergence(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1)) == 0


def test_kl_of_a_runaway_posterior_is_finite():
    assert losses.kl_divergence(torch.zeros(1, 1, 2), torch.tensor([[[1e4, -1e4]]])).isfinite()


def test_si_sdr_ignores_scale_and_measures_what_was_added():
    target, added = noise(1, 1, 48_000), noise(1, 1, 48_000, seed=1)
    for ratio in (0, 20):
        estimate = 3 * (target + 10 ** (-ratio / 20) * added)
        assert metrics.si_sdr(estimate, target).item() == pytest.approx(ratio, abs=0.2)
    assert metrics.si_sdr(-2 * target, target) > 60


def test_latent_statistics_tell_used_channels_from_idle_ones():
    mean, logvar = torch.zeros(4, 2, 500), torch.zeros(4, 2, 500)
    mean[:, 0], logvar[:, 0] = 2 * noise(4, 500), 2 * math.log(0.1)
    found = metrics.latent_statistics(mean, logvar)
    assert found["latent_std_most"] == pytest.approx(2, abs=0.1) and found["latent_std_least"] == 0
    assert found["latent_active"] == 0.5 and found["latent_sigma"] == pytest.approx(0.55)


def test_least_squares_losses_on_known_scores():
    real, fake = [[torch.ones(1)], [torch.zeros(2)]], [[torch.zeros(3)], [torch.full((2,), 2.0)]]
    assert losses.discriminator_loss(real, fake) == 0 + 0 + 1 + 4
    assert losses.adversarial_loss(fake) == 1 + 1


def test_feature_loss_leaves_out_the_scores_and_the_real_side():
    real = [[torch.ones(2, requires_grad=True), torch.zeros(1)]]
    fake = [[torch.full((2,), 3.0, requires_grad=True), torch.ones(1)]]
    loss = losses.feature_loss(real, fake)
    loss.backward()
    assert loss == 2 and real[0][0].grad is None and fake[0][0].grad is not None


@pytest.mark.parametrize("length", [9600, 9601])
def test_discriminators_judge_any_length(length):
    judged = Discriminators(width=2)(noise(2, 1, length))
    assert len(judged) == len(PERIODS) + len(WINDOWS)
    assert all(layers[-1].shape[:2] == (2, 1) for layers in judged)
    assert all(layer.isfinite().all() for layers in judged for layer in layers)


def test_bands_cover_every_bin_once():
    judge = BandDiscriminator(512, 2)
    assert len(judge.bands) == len(BAND_EDGES) - 1
    assert [edge for band in judge.bands for edge in range(*band)] == list(range(257))


def test_discriminators_learn_to_tell_a_sine_from_noise():
    torch.manual_seed(0)
    judges, real, fake = Discriminators(width=2), sine(length=1200), 0.3 * noise(1, 1, 1200)
    optimiser = torch.optim.Adam(judges.parameters(), 1e-2)
    history = []
    for _ in range(15):
        loss = losses.discriminator_loss(judges(real), judges(fake))
        history.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert history[-1] < 0.6 * history[0]
