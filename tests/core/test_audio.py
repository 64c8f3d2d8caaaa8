"""Sound in and out: level, place in time and length to the sample."""

import math

import numpy as np
import pytest
import torch

from hunyuan_foley_core.errors import InputError, MediaError
from hunyuan_foley_core.media import DecodeReport, read_audio, resample, to_mono, to_stereo, write_audio
from hunyuan_foley_core.media.output import replacing
from hunyuan_foley_core.whole_files import leftovers
from tests import videos

CLICK = 24_123  # sample of a click at 48 kHz
MILLISECOND = 48


def peak(waveform: torch.Tensor) -> int:
    return int(waveform.abs().amax(0).argmax())


@pytest.mark.parametrize("from_rate, to_rate", [(44_100, 48_000), (48_000, 44_100), (16_000, 48_000), (96_000, 48_000)])
def test_resampling_keeps_pitch_level_and_place(from_rate, to_rate):
    wave = torch.from_numpy(videos.sine(1.001, from_rate, channels=2))
    out = resample(wave, from_rate, to_rate)
    expected = torch.from_numpy(videos.sine(out.shape[1] / to_rate, to_rate, channels=2))
    assert out.shape == expected.shape == (2, round(wave.shape[1] * to_rate / from_rate))
    inner = slice(1000, -1000)
    assert (out - expected)[:, inner].abs().max() < 1e-4  # a sample of delay would be 0.03 and more


@pytest.mark.parametrize("samples", [0, 1, 3, 100, 65_537])
def test_resampling_any_length(samples):
    assert resample(torch.rand(2, 3, samples), 44_100, 48_000).shape == (2, 3, round(samples * 48_000 / 44_100))
    assert resample(torch.rand(samples), 48_000, 16_000).shape == (round(samples / 3),)


def test_resampling_in_pieces_has_no_seams():
    wave = torch.from_numpy(videos.sine(4.0, 44_100))
    out = resample(wave, 44_100, 48_000)
    assert (out - torch.from_numpy(videos.sine(4.0)))[:, 1000:-1000].abs().max() < 1e-4


def test_same_rate_is_untouched():
    wave = torch.rand(2, 100)
    assert torch.equal(resample(wave, 48_000, 48_000), wave)
    with pytest.raises(InputError, match="positive"):
        resample(wave, 0, 48_000)


def test_channels():
    wave = torch.tensor([[1.0, 0.0], [0.0, 0.5]])
    assert torch.equal(to_mono(wave), torch.tensor([[0.5, 0.25]]))
    assert torch.equal(to_stereo(wave), wave)
    left_of_six = torch.zeros(6, 100)
    left_of_six[0] = 0.5
    stereo = to_stereo(left_of_six)
    assert stereo.shape == (2, 100) and stereo[0].max() > 0.1 and stereo[1].abs().max() == 0
    assert to_stereo(torch.rand(12, 100)).shape == (1, 100)


@pytest.mark.parametrize(
    "name, codec, layout, tolerance",
    [
        ("a.wav", "pcm_s16le", "mono", 1e-4),
        ("a.wav", "pcm_s24le", "stereo", 1e-6),
        ("a.wav", "pcm_u8", "mono", 2e-2),
        ("a.wav", "pcm_f64le", "stereo", 1e-6),
        ("a.flac", "flac", "stereo", 1e-4),
        ("a.mp3", "libmp3lame", "stereo", 5e-2),
        ("a.m4a", "aac", "mono", 5e-2),
        ("a.ogg", "libopus", "stereo", 5e-2),
        ("a.m4a", "aac", "5.1", 5e-2),
    ],
)
def test_reading_codecs_and_layouts(name, codec, layout, tolerance, tmp_path):
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    wave = videos.impulse(1.0, CLICK, channels=channels)
    if channels == 6:
        wave[3] = 0  # the low-frequency channel carries no click
    waveform, rate = read_audio(videos.make_audio(tmp_path / name, wave, codec=codec, layout=layout))
    assert rate == 48_000 and waveform.dtype == torch.float32 and waveform.shape[0] == channels
    assert abs(peak(waveform) - CLICK) <= MILLISECOND
    assert abs(waveform.abs().max() - 0.9) < max(tolerance, 1e-3) * 4
    if tolerance < 1e-3:
        assert waveform.shape[1] == 48_000
        assert np.abs(waveform.numpy() - wave).max() < tolerance


@pytest.mark.parametrize("name, codec", [("a.mp4", "aac"), ("a.mkv", "aac"), ("a.mkv", "flac"), ("a.mov", "pcm_s16le")])
@pytest.mark.parametrize("late", [0.0, 0.25])
def test_sound_is_aligned_to_the_picture(name, codec, late, tmp_path):
    source = videos.make_video(
        tmp_path / name, frames=60, waveform=videos.impulse(1.5, CLICK), audio_codec=codec, audio_start=late
    )
    waveform, rate = read_audio(source)
    assert abs(peak(waveform) - (CLICK + late * rate)) <= MILLISECOND
    waveform, _ = read_audio(source, start=0.4, duration=0.6)
    assert abs(peak(waveform) - (CLICK + (late - 0.4) * rate)) <= MILLISECOND
    assert waveform.shape[1] == 0.6 * rate
    waveform, _ = read_audio(source, start=0.6 + late)
    assert waveform.abs().max() < 0.1  # the click lies before the start


def test_sound_of_a_late_picture_is_on_the_same_clock(tmp_path):
    source = videos.make_video(tmp_path / "a.mkv", first_pts=15, waveform=videos.impulse(1.0, CLICK))
    assert abs(peak(read_audio(source)[0]) - CLICK) <= MILLISECOND


def test_hours_of_offset_are_taken_off_sound_too(tmp_path):
    source = videos.make_video(
        tmp_path / "a.mkv", first_pts=30 * 7200, waveform=videos.impulse(1.0, CLICK), audio_codec="flac",
        audio_start=7200.0,
    )
    assert abs(peak(read_audio(source)[0]) - CLICK) <= MILLISECOND


def test_damaged_sound_keeps_its_place(tmp_path):
    wave = videos.impulse(4.0, 168_000) + 0.01 * videos.sine(4.0, frequency=3000)
    source = videos.make_audio(tmp_path / "a.m4a", wave, codec="aac")
    videos.damage(source, 0.3, 0.5)
    report = DecodeReport()
    waveform, _ = read_audio(source, report=report)
    assert abs(peak(waveform[:, 150_000:]) + 150_000 - 168_000) <= MILLISECOND
    assert waveform[:, 70_000:80_000].abs().max() < 1e-3
    assert report.failed > 10 and "damaged" in report.warnings[0]


def test_no_sound_and_no_file(tmp_path):
    with pytest.raises(MediaError, match="no sound track"):
        read_audio(videos.make_video(tmp_path / "a.mp4"))
    with pytest.raises(MediaError, match="no file"):
        read_audio(tmp_path / "b.mp4")


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_wav_keeps_every_bit(channels, tmp_path):
    wave = torch.randn(channels, 70_001) * 2
    report = write_audio(tmp_path / "a.wav", wave, 44_100)
    waveform, rate = read_audio(tmp_path / "a.wav")
    assert rate == 44_100 and torch.equal(waveform, wave)
    assert (report.clipped, report.warnings, report.seconds) == (0, [], 70_001 / 44_100)


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_flac_keeps_24_bits_and_counts_clipping(channels, tmp_path):
    wave = torch.rand(channels, 50_000) * 2 - 1
    wave[0, 7], wave[-1, 9], wave[0, 11] = 1.5, -2.0, 1.0
    report = write_audio(tmp_path / "a.flac", wave, 48_000)
    waveform, _ = read_audio(tmp_path / "a.flac")
    assert (waveform - wave.clamp(-1, 1)).abs().max() <= 2**-23
    assert report.clipped == 2
    assert "2 samples" in report.warnings[0] and f"{20 * math.log10(2):+.1f} dB" in report.warnings[0]


def test_format_by_name_and_unknown_format(tmp_path):
    write_audio(tmp_path / "sound", torch.zeros(1, 10), 48_000, format="wav")
    assert read_audio(tmp_path / "sound")[0].shape == (1, 10)
    with pytest.raises(InputError, match=".mp3"):
        write_audio(tmp_path / "a.mp3", torch.zeros(1, 10), 48_000)


@pytest.mark.parametrize(
    "waveform, rate, found",
    [
        (torch.zeros(10), 48_000, "shape"),
        (torch.zeros(1, 1, 10), 48_000, "shape"),
        (torch.zeros(9, 10), 48_000, "shape"),
        (torch.tensor([[0.0, float("nan")]]), 48_000, "NaN"),
        (torch.tensor([[0.0, float("inf")]]), 48_000, "NaN"),
        (torch.zeros(1, 10), 0, "sample rate"),
    ],
)
def test_sound_that_cannot_be_written(waveform, rate, found, tmp_path):
    with pytest.raises(InputError, match=found):
        write_audio(tmp_path / "a.wav", waveform, rate)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [f"{'x' * 251}.wav", f"{chr(0x96e8) * 82}.wav", "take-12:30.wav", "take-12:30.flac"])
def test_long_names_and_colons(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_audio(name, torch.full((1, 4_800), 0.5), 48_000)
    assert [path.name for path in tmp_path.iterdir()] == [name] and read_audio(name)[0].shape == (1, 4_800)


@pytest.mark.parametrize("name", ["a.wav", f"{'x' * 251}.wav"])
def test_what_a_kill_leaves_is_found_again(name, tmp_path):
    (tmp_path / "other.wav").write_bytes(b"")
    with replacing(tmp_path / name) as temporary:
        temporary.write_bytes(b"half")
        assert leftovers(tmp_path / name) == [temporary] and leftovers(tmp_path / "other.wav") == []
    assert leftovers(tmp_path / name) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    from hunyuan_foley_core.media import audio

    write_audio(tmp_path / "a.wav", torch.zeros(1, 10), 48_000)
    before = (tmp_path / "a.wav").read_bytes()

    def fails(*args):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(audio, "encode", fails)
    with pytest.raises(KeyboardInterrupt):
        write_audio(tmp_path / "a.wav", torch.zeros(1, 10), 48_000)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"] and (tmp_path / "a.wav").read_bytes() == before


def test_folder_that_is_not_there(tmp_path):
    with pytest.raises(MediaError, match="could not be written"):
        write_audio(tmp_path / "nowhere" / "a.wav", torch.zeros(1, 10), 48_000)
