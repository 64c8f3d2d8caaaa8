"""The mix: ducking as deep as asked, loudness by a meter of our own, width, rates, codecs, and nothing moved."""

import math

import pytest
import torch

from hunyuan_foley_core.errors import InputError, MediaError
from hunyuan_foley_core.media import Ducking, Mix, filters, mixdown, mux, probe, read_audio
from tests import loudness_meter, videos

RATE = 48_000


def tone(seconds: float, level: float = 0.5, frequency: float = 997.0, channels: int = 1) -> torch.Tensor:
    return torch.from_numpy(videos.sine(seconds, frequency=frequency, channels=channels)) * (level / 0.5)


def burst(seconds: float, begin: float, end: float, level: float = 0.2) -> torch.Tensor:
    """Noise between two times, silence else."""
    noise = torch.zeros(1, round(seconds * RATE))
    piece = slice(round(begin * RATE), round(end * RATE))
    noise[:, piece] = level * torch.randn(noise[:, piece].shape, generator=torch.Generator().manual_seed(0))
    return noise


def hits(seconds: float, channels: int = 1) -> torch.Tensor:
    """Steps: short decaying noises four times a second over a quiet room, with a high crest."""
    generator = torch.Generator().manual_seed(1)
    spectrum = torch.fft.rfft(torch.randn(channels, round(seconds * RATE), generator=generator))
    spectrum[:, round(20_000 * seconds) :] = 0  # as far as recordings go; true peaks depend on it
    noise = torch.fft.irfft(spectrum, round(seconds * RATE))
    time = torch.arange(noise.shape[1]) / RATE % 0.25
    return noise * (0.2 * torch.exp(-time / 0.02) + 1e-3)


def mixed(foley, seconds, **mix):
    return mixdown(foley, RATE, seconds, mix=Mix(**mix))


def gain_db(after: torch.Tensor, before: torch.Tensor, begin: float, end: float) -> float:
    piece = slice(round(begin * RATE), round(end * RATE))
    return 20 * math.log10(after[:, piece].norm() / before[:, piece].norm())


# ---- ducking


@pytest.mark.parametrize("depth", [3.0, 12.0, 24.0])
@pytest.mark.parametrize("duck", ["original", "foley"])
def test_ducking_is_as_deep_as_asked_and_all_is_as_before_around_it(duck, depth):
    # The key and what is ducked lie in different octaves of the discrete spectrum, so that the mix can be taken apart.
    steady, key = tone(4.0, channels=2), burst(4.0, 1.5, 2.5)
    foley, original = (steady, key) if duck == "foley" else (key, steady)
    made = mixdown(
        foley, RATE, 4.0, original=(original, RATE),
        mix=Mix(mode="mix", duck=duck, ducking=Ducking(depth, attack_ms=40, release_ms=300)),
    ).waveform
    rest = made - key
    assert gain_db(rest, steady, 1.51, 2.49) == pytest.approx(-depth, abs=0.2)
    assert torch.allclose(rest[:, : round(1.45 * RATE)], steady[:, : round(1.45 * RATE)], atol=1e-4)
    assert torch.allclose(rest[:, round(2.9 * RATE) :], steady[:, round(2.9 * RATE) :], atol=1e-3)
    assert -depth < gain_db(rest, steady, 2.6, 2.65) < -0.05 * depth


def test_the_gain_moves_without_steps():
    """On a constant, what is heard of the gain itself: nowhere faster than some dB in a millisecond."""
    steady, key = torch.full((1, 3 * RATE), 0.5), burst(3.0, 1.0, 2.0)
    ducked = mixdown(key, RATE, 3.0, original=(steady, RATE), mix=Mix(mode="mix", duck="original")).waveform - key
    gain = 20 * torch.log10(ducked / 0.5)
    assert gain.diff().abs().max() * RATE / 1000 < 1.5
    assert gain[:, : round(0.945 * RATE)].abs().max() < 0.01 and gain[:, -1].abs() < 0.1


def test_speech_with_gaps_stays_under_and_quiet_noise_does_not_duck():
    steady = tone(3.0)
    syllables = burst(3.0, 0.5, 2.5) * (torch.arange(3 * RATE) / RATE % 0.2 < 0.12)
    made = mixdown(steady, RATE, 3.0, original=(syllables, RATE), mix=Mix(mode="mix", duck="foley")).waveform - syllables
    assert gain_db(made, steady, 0.6, 2.4) == pytest.approx(-12, abs=1)
    quiet = burst(3.0, 0.5, 2.5, level=0.001)
    made = mixdown(steady, RATE, 3.0, original=(quiet, RATE), mix=Mix(mode="mix", duck="foley")).waveform - quiet
    assert gain_db(made, steady, 0.6, 2.4) == pytest.approx(0, abs=0.05)


# ---- loudness


@pytest.mark.parametrize("target, ceiling", [(-23.0, -1.0), (-16.0, -1.5), (-18.0, -6.0)])
@pytest.mark.parametrize("kind", ["hits", "tone", "stereo"])
def test_loudness_and_true_peak_by_another_meter(kind, target, ceiling):
    sound = {"hits": hits(3.0), "tone": tone(3.0, 0.05), "stereo": hits(3.0, 2)}[kind]
    track = mixed(sound, sound.shape[1] / RATE, loudness=target, true_peak=ceiling)
    assert loudness_meter.loudness(track.waveform) == pytest.approx(target, abs=0.5)
    assert loudness_meter.true_peak(track.waveform) <= ceiling


def test_without_peaks_in_the_way_it_is_one_gain():
    sound = hits(4.0)
    made = mixed(sound, 4.0, loudness=-30.0).waveform
    ratio = made[sound.abs() > 1e-3] / sound[sound.abs() > 1e-3]
    assert ratio.std() < 1e-5 * ratio.mean()


@pytest.mark.parametrize("seconds", [0.01, 0.2, 0.4, 0.7, 2.0])
def test_short_sounds_are_measured_with_silence_up_to_a_block(seconds):
    track = mixed(tone(seconds, 0.1), seconds, loudness=-30.0)
    padded = torch.nn.functional.pad(track.waveform, (0, max(round(0.4 * RATE) - track.waveform.shape[1], 0)))
    assert track.waveform.shape[1] == round(seconds * RATE)
    assert loudness_meter.loudness(padded) == pytest.approx(-30, abs=0.5)


def test_silence_stays_and_what_cannot_be_is_said():
    silent = mixed(torch.zeros(1, RATE), 1.0, loudness=-23.0)
    assert silent.waveform.abs().max() == 0 and "silent" in silent.warnings[0]
    assert mixed(torch.zeros(1, 0), 1.0, loudness=-23.0).waveform.shape == (1, RATE)
    click = torch.from_numpy(videos.impulse(3.0, RATE))
    track = mixed(click, 3.0, loudness=-10.0, true_peak=-1.0)
    assert "cannot be had" in track.warnings[0] and loudness_meter.true_peak(track.waveform) <= -0.99


def test_limiting_moves_nothing():
    sound = hits(2.0) * 0.2 + torch.from_numpy(videos.impulse(2.0, 24_123))
    track = mixed(sound, 2.0, loudness=-30.0, true_peak=-3.0)
    assert int(track.waveform.abs().argmax()) == 24_123 and track.waveform.shape == sound.shape


# ---- place, width, rate


@pytest.mark.parametrize("rate", [48_000, 44_100, 96_000])
@pytest.mark.parametrize("offset", [0.0, 0.25, -0.1])
def test_every_stage_at_once_keeps_an_impulse_in_its_sample(rate, offset):
    click, own = torch.from_numpy(videos.impulse(2.0, 24_000)), tone(2.0, 0.02, channels=2)
    settings = dict(offset=offset, width=1.5, loudness=-24.0, true_peak=-3.0, mode="mix", duck="original")
    track = mixdown(click, RATE, 2.0, rate=rate, original=(own, RATE), mix=Mix(**settings))
    assert track.waveform.shape == (2, 2 * rate) and track.sample_rate == rate
    assert int(track.waveform.sum(0).abs().argmax()) == round((0.5 + offset) * rate)


def test_width():
    stereo = torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    middle, side = stereo.mean(0), (stereo[0] - stereo[1]) / 2
    for width in (0.0, 0.5, 2.0):
        made = mixed(stereo, 1.0, width=width).waveform
        assert torch.allclose(made.mean(0), middle, atol=1e-5)
        assert torch.allclose((made[0] - made[1]) / 2, width * side, atol=1e-5)
    mono = tone(1.0)
    assert torch.equal(mixed(mono, 1.0, width=0.5).waveform, mono)
    wide = mixed(mono, 1.0, width=1.6).waveform
    late = torch.nn.functional.pad(mono[:, : -RATE * 12 // 1000], (RATE * 12 // 1000, 0))
    assert torch.allclose(wide.mean(0, keepdim=True), mono, atol=1e-5)
    assert torch.allclose(wide[0] - wide[1], 1.2 * late[0], atol=1e-5)


def test_channels_of_the_result():
    assert mixed(tone(1.0), 1.0, channels="stereo").waveform.shape[0] == 2
    assert mixed(tone(1.0, channels=2), 1.0, channels="mono").waveform.shape[0] == 1


# ---- files


@pytest.mark.parametrize("suffix, codec, name, rate", [
    (".mp4", "flac", "flac", 44_100), (".mp4", "opus", "opus", None), (".mp4", "pcm", "pcm_s24le", 96_000),
    (".mov", "pcm", "pcm_s24le", None), (".mkv", "aac", "aac", 44_100), (".mkv", "opus", "opus", None),
    (".mkv", "pcm", "pcm_s24le", 48_000), (".mp4", "aac", "aac", 96_000),
])
def test_codecs_and_rates_in_files(suffix, codec, name, rate, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    mux(source, torch.from_numpy(videos.impulse(1.0, 24_123)), RATE, tmp_path / f"out{suffix}", codec=codec, rate=rate)
    waveform, written = read_audio(tmp_path / f"out{suffix}", duration=1.0)
    assert written == (rate or RATE) and waveform.shape[1] == written
    assert abs(int(waveform[0].abs().argmax()) / written - 24_123 / RATE) < 1e-3
    import av

    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.streams.audio[0].codec_context.name.removeprefix("lib") == name


def test_a_stereo_track_at_44100_is_ducked_and_made_loud(tmp_path):
    source = videos.make_video(
        tmp_path / "a.mp4", frames=60, waveform=videos.sine(2.0, rate=44_100, channels=2), audio_rate=44_100,
        audio_layout="stereo",
    )
    report = mux(
        source, hits(2.0), RATE, tmp_path / "out.mkv", mode="mix", duck="original", loudness=-20.0, true_peak=-2.0,
    )
    waveform, rate = read_audio(tmp_path / "out.mkv")
    assert (waveform.shape, rate, report.warnings) == ((2, 2 * RATE), RATE, [])
    assert loudness_meter.loudness(waveform) == pytest.approx(-20, abs=0.5)
    assert loudness_meter.true_peak(waveform) <= -1.99


@pytest.mark.parametrize("codec", ["aac", "opus"])
def test_the_ceiling_holds_after_coding(codec, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=60)
    mux(source, hits(2.0), RATE, tmp_path / "out.mp4", codec=codec, loudness=-18.0, true_peak=-1.5)
    waveform, _ = read_audio(tmp_path / "out.mp4", duration=2.0)
    assert loudness_meter.true_peak(waveform) <= -1.5
    assert loudness_meter.loudness(waveform) == pytest.approx(-18, abs=0.5)


def test_a_video_of_one_frame(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=1)
    report = mux(source, hits(1.0), RATE, tmp_path / "out.mkv", loudness=-20.0)
    assert report.seconds == pytest.approx(1 / 30) and probe(tmp_path / "out.mkv").has_audio
    assert read_audio(tmp_path / "out.mkv")[0].shape[1] == RATE // 30


@pytest.mark.parametrize("options, error, found", [
    (dict(codec="flac"), InputError, "write a .mp4 or .mkv file"),
    (dict(codec="mp3"), InputError, "hold opus"),
    (dict(rate=44_100), InputError, "opus at 44100 Hz"),
    (dict(duck="original"), InputError, "needs both sounds"),
    (dict(mode="mix", duck="voice"), InputError, "duck is 'voice'"),
    (dict(loudness=-2.0), InputError, "-2 LUFS"),
    (dict(loudness=-20.0, true_peak=1.0), InputError, "1 dBTP"),
    (dict(width=3.0), InputError, "width is 3"),
    (dict(mode="mix", channels="5.1"), InputError, "channels is '5.1'"),
])
def test_wrong_settings_write_nothing(options, error, found, tmp_path):
    source = videos.make_video(tmp_path / "a.webm", codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
    with pytest.raises(error, match=found):
        mux(source, tone(1.0), RATE, tmp_path / "out.webm", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["a.webm"]


@pytest.mark.parametrize("how", [dict(depth_db=40), dict(attack_ms=0), dict(release_ms=9e9), dict(threshold_db=1)])
def test_ducking_out_of_range(how):
    with pytest.raises(InputError, match="of ducking is .* must lie between"):
        Ducking(**how)


def test_a_build_without_a_filter_says_so(monkeypatch):
    monkeypatch.setattr(filters.av.filter, "filters_available", {"ebur128"})
    with pytest.raises(MediaError, match="has no filter ametadata"):
        mixed(tone(1.0), 1.0, loudness=-20.0)
