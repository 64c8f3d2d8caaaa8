"""Muxing: the picture bit for bit, the sound where it belongs, and a file whole or not at all."""

import io
from fractions import Fraction

import av
import pytest
import torch

from hunyuan_foley_core.errors import InputError, MediaError
from hunyuan_foley_core.media import check_mux, mux, probe, read_audio, stream_frames, suffix_for, to_mono
from hunyuan_foley_core.media.containers import CONTAINERS
from tests import videos

CLICK = 24_123
MILLISECOND = 48
VP9 = dict(codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
PRORES = dict(codec="prores_ks", pix_fmt="yuv422p10le")
B_FRAMES = {"preset": "veryfast", "bf": "2", "g": "30"}


def click(at: int = CLICK, seconds: float = 1.0, channels: int = 1) -> torch.Tensor:
    return torch.from_numpy(videos.impulse(seconds, at, channels=channels))


def peak(path) -> int:
    return int(to_mono(read_audio(path)[0]).abs().argmax())


def level(path, begin: float, end: float) -> float:
    waveform, rate = read_audio(path)
    return float(waveform[:, int(begin * rate) : int(end * rate)].abs().max())


def payloads(path) -> list[bytes]:
    return [payload for payload, _ in videos.packets(path)]


def times(path) -> list[float]:
    return [time for _, time in videos.packets(path)]


SOURCES = {
    "h264": ("a.mp4", dict(options=B_FRAMES)),
    "h264 with sound": ("a.mp4", dict(waveform=videos.sine(1.0))),
    "h264 in 10 bit": ("a.mp4", dict(pix_fmt="yuv420p10le")),
    "h264 in Matroska": ("a.mkv", dict(options=B_FRAMES)),
    "VP9": ("a.webm", VP9),
    "VP9 with alpha": ("a.webm", dict(VP9, pix_fmt="yuva420p")),
    "ProRes": ("a.mov", PRORES),
    "variable rate": ("a.mp4", dict(times_ms=[0, 20, 100, 133, 283, 600, 780, 900, 960])),
    "29.97": ("a.mp4", dict(rate=Fraction(30000, 1001))),
    "MPEG-4 in AVI": ("a.avi", dict(codec="mpeg4")),
}
FITS = {
    "h264": (".mp4", ".mov", ".mkv"),
    "h264 in Matroska": (".mkv",),
    "VP9": (".mp4", ".webm", ".mkv"),
    "VP9 with alpha": (".webm", ".mkv"),
    "ProRes": (".mov", ".mkv"),
}


@pytest.mark.parametrize("kind, suffix", [(kind, suffix) for kind in SOURCES for suffix in FITS.get(kind, (".mp4",))])
def test_picture_packets_are_copied_bit_for_bit(kind, suffix, tmp_path):
    name, options = SOURCES[kind]
    source = videos.make_video(tmp_path / name, **options)
    out = tmp_path / f"out{suffix}"
    report = mux(source, click(), 48_000, out)
    assert payloads(out) == payloads(source)
    assert times(out) == pytest.approx(times(source), abs=1e-3)
    assert abs(peak(out) - CLICK) <= MILLISECOND
    assert report.path == out and report.warnings == [] and report.dropped == []
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({name, out.name})


@pytest.mark.parametrize("suffix, codec", [(".mp4", "aac"), (".mov", "aac"), (".mkv", "flac")])
def test_sound_is_as_long_as_the_picture(suffix, codec, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=37)
    for seconds in (0.3, 5.0):
        report = mux(source, torch.from_numpy(videos.sine(seconds)), 48_000, tmp_path / f"out{suffix}")
        waveform, rate = read_audio(tmp_path / f"out{suffix}", duration=report.seconds)
        assert (report.codec, report.seconds) == (codec, pytest.approx(37 / 30)) and rate == 48_000
        assert waveform.shape[1] == round(37 / 30 * 48_000)
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert container.duration / av.time_base == pytest.approx(37 / 30, abs=2e-3)


@pytest.mark.parametrize("offset", [0.25, -0.25])
def test_offset_moves_the_sound(offset, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    mux(source, click(), 48_000, tmp_path / "out.mkv", offset=offset)
    assert peak(tmp_path / "out.mkv") == CLICK + offset * 48_000


@pytest.mark.parametrize("offset", [3.0, -3.0])
def test_offset_past_either_end_gives_silence(offset, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    mux(source, click(), 48_000, tmp_path / "out.mkv", offset=offset)
    waveform, _ = read_audio(tmp_path / "out.mkv")
    assert waveform.shape[1] == 48_000 and waveform.abs().max() == 0


@pytest.mark.parametrize("rate", [44_100, 22_050, 16_000, 37_800])
@pytest.mark.parametrize("kind", ["h264", "VP9"])
def test_any_sample_rate(rate, kind, tmp_path):
    name, options = SOURCES[kind]
    source = videos.make_video(tmp_path / name, **options)
    out = tmp_path / f"out{suffix_for(source)}"
    mux(source, torch.from_numpy(videos.impulse(1.0, rate // 3, rate=rate)), rate, out)
    out_rate = read_audio(out)[1]
    assert abs(peak(out) / out_rate - (rate // 3) / rate) < 1e-3


def test_replace_and_mix(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", waveform=videos.impulse(1.0, 12_000))
    mux(source, click(36_000), 48_000, tmp_path / "out.mkv")
    assert level(tmp_path / "out.mkv", 0, 0.5) < 1e-3
    mux(source, click(36_000), 48_000, tmp_path / "out.mkv", mode="mix", gain_db=-6.0, original_gain_db=-20.0)
    assert level(tmp_path / "out.mkv", 0.5, 1) == pytest.approx(0.9 * 10 ** (-6 / 20), rel=1e-4)
    assert level(tmp_path / "out.mkv", 0, 0.5) == pytest.approx(0.09, rel=0.05)  # through AAC once
    waveform, _ = read_audio(tmp_path / "out.mkv")
    assert abs(int(waveform[0, :24_000].abs().argmax()) - 12_000) <= MILLISECOND


def test_mixing_mono_into_stereo_and_other_rates(tmp_path):
    source = videos.make_video(
        tmp_path / "a.mp4", waveform=videos.impulse(1.0, 11_025, rate=44_100, channels=2), audio_rate=44_100,
        audio_layout="stereo",
    )
    mux(source, click(36_000), 48_000, tmp_path / "out.mkv", mode="mix")
    waveform, _ = read_audio(tmp_path / "out.mkv")
    assert waveform.shape == (2, 48_000)
    assert abs(int(waveform[1, :24_000].abs().argmax()) - 12_000) <= MILLISECOND
    assert waveform[:, 36_000].tolist() == pytest.approx([0.9, 0.9], abs=0.02)


def test_surround_becomes_stereo(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", waveform=videos.sine(1.0, channels=6), audio_layout="5.1")
    mux(source, click(channels=8), 48_000, tmp_path / "out.mp4", mode="mix")
    assert read_audio(tmp_path / "out.mp4")[0].shape[0] == 2


def test_clipping_is_counted(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    report = mux(source, click(), 48_000, tmp_path / "out.mkv", gain_db=6.0)
    assert report.clipped > 0 and "beyond full scale" in report.warnings[0]
    assert level(tmp_path / "out.mkv", 0, 1) == pytest.approx(1.0)
    assert mux(source, click(), 48_000, tmp_path / "out.mkv").clipped == 0


@pytest.mark.parametrize(
    "turned, suffix",
    [(90, ".mp4"), (180, ".mp4"), (270, ".mp4"), ("mirror", ".mp4"), (90, ".mov"), (90, ".mkv"), (270, ".mkv")],
)
def test_rotation_survives(turned, suffix, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", turned=turned)
    mux(source, click(), 48_000, tmp_path / f"out{suffix}")
    assert all(videos.is_upright(frame.image) for frame in stream_frames(tmp_path / f"out{suffix}"))


def test_late_picture_stays_late(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", first_pts=6)
    report = mux(source, click(), 48_000, tmp_path / "out.mp4")
    assert report.seconds == pytest.approx(1.2)
    assert times(tmp_path / "out.mp4") == pytest.approx(times(source), abs=1e-3)
    assert abs(peak(tmp_path / "out.mp4") - CLICK) <= MILLISECOND


def test_hours_of_offset_are_taken_off(tmp_path):
    source = videos.make_video(
        tmp_path / "a.mkv", first_pts=30 * 7200, waveform=videos.impulse(1.0, 12_000), audio_codec="flac",
        audio_start=7200.0,
    )
    report = mux(source, click(36_000), 48_000, tmp_path / "out.mkv", mode="mix", gain_db=-20.0)
    assert report.seconds == pytest.approx(1.0)
    assert times(tmp_path / "out.mkv") == pytest.approx([k / 30 for k in range(30)], abs=1e-3)
    assert abs(peak(tmp_path / "out.mkv") - 12_000) <= MILLISECOND


@pytest.mark.parametrize("options", [B_FRAMES, {"preset": "ultrafast", "g": "30"}], ids=["B-frames", "no B-frames"])
def test_frames_hidden_by_an_edit_stay_hidden(options, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=60, options=options, waveform=videos.impulse(2.0, 60_000))
    videos.trim_by_edit_list(source, 0.5, 1.0)
    shown = [videos.index_of(frame.image) for frame in stream_frames(source)]
    assert shown[0] == 15 and shown[-1] in (43, 44)
    report = mux(source, click(), 48_000, tmp_path / "out.mp4")
    assert report.seconds == pytest.approx(1.0)
    assert [videos.index_of(frame.image) for frame in stream_frames(tmp_path / "out.mp4")] == shown
    assert abs(peak(tmp_path / "out.mp4") - CLICK) <= MILLISECOND
    with pytest.raises(MediaError, match="hides frames"):
        mux(source, click(), 48_000, tmp_path / "out.mkv")


def test_tags_stay_and_subtitles_go_where_they_can(tmp_path):
    videos.make_video(tmp_path / "a.mp4", waveform=videos.sine(1.0))
    videos.make_audio(tmp_path / "second.m4a", videos.sine(1.0), codec="aac")
    (tmp_path / "a.srt").write_text("1\n00:00:00,100 --> 00:00:00,800\nA door.\n\n")
    source = videos.with_streams(tmp_path / "a.mkv", *(tmp_path / n for n in ("a.mp4", "second.m4a", "a.srt")))
    report = mux(source, click(), 48_000, tmp_path / "out.mkv")
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert sorted(stream.type for stream in container.streams) == ["audio", "subtitle", "video"]
    assert report.dropped == ["1 further sound tracks"]
    report = mux(source, click(), 48_000, tmp_path / "out.mp4")
    assert any("subtitle" in text for text in report.dropped) and "out.mp4" in report.warnings[0]
    assert payloads(tmp_path / "out.mp4") == payloads(source)


def test_a_workflow_in_the_tags_survives(tmp_path):
    source = tmp_path / "a.mp4"
    free_tags = {"movflags": "use_metadata_tags"}
    videos.make_video(source, container_options=free_tags, tags={"prompt": '{"1": {}}', "title": "Rain"})
    mux(source, click(), 48_000, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.metadata["prompt"] == '{"1": {}}' and container.metadata["title"] == "Rain"


def test_onto_itself_and_from_memory(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", waveform=videos.sine(1.0))
    before, data = payloads(source), io.BytesIO(source.read_bytes())
    mux(source, click(), 48_000, source)
    assert payloads(source) == before and abs(peak(source) - CLICK) <= MILLISECOND
    mux(data, click(), 48_000, tmp_path / "out.mp4", mode="mix")
    assert payloads(tmp_path / "out.mp4") == before


@pytest.mark.parametrize(
    "kind, suffix", [("ProRes", ".mov"), ("VP9", ".webm"), ("h264", ".mp4"), ("MPEG-4 in AVI", ".mp4")]
)
def test_best_suffix_for_a_source(kind, suffix, tmp_path):
    name, options = SOURCES[kind]
    source = videos.make_video(tmp_path / name, **options)
    assert suffix_for(source) == suffix
    mux(source, click(), 48_000, tmp_path / f"out{suffix}")


@pytest.mark.parametrize("kind, suffix", [("ProRes", ".mp4"), ("VP9", ".mov"), ("h264", ".webm")])
def test_a_picture_that_does_not_fit_names_the_suffix_that_does(kind, suffix, tmp_path):
    name, options = SOURCES[kind]
    source = videos.make_video(tmp_path / name, **options)
    with pytest.raises(MediaError, match=f"Write a {suffix_for(source)} file"):
        mux(source, click(), 48_000, tmp_path / f"out{suffix}")
    with pytest.raises(MediaError, match=f"Write a {suffix_for(source)} file"):
        check_mux(source, tmp_path / f"out{suffix}")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("kind", FITS)
def test_what_fits_is_let_through_before_the_sound_is_made(kind, tmp_path):
    name, options = SOURCES[kind]
    source = videos.make_video(tmp_path / name, **options)
    for suffix in FITS[kind]:
        for codec in CONTAINERS[suffix].codecs:
            check_mux(source, tmp_path / f"out{suffix}", codec=codec)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "options, error, found",
    [
        (dict(mode="mix"), MediaError, "no sound track"),
        (dict(mode="add"), InputError, "mode"),
        (dict(start=0.2), InputError, "part of the video"),
        (dict(duration=0.5), InputError, "part of the video"),
        (dict(offset=float("nan")), InputError, "offset"),
        (dict(gain_db=float("inf")), InputError, "gain"),
    ],
)
def test_wrong_arguments(options, error, found, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    with pytest.raises(error, match=found):
        mux(source, click(), 48_000, tmp_path / "out.mp4", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]


def test_the_whole_length_may_be_named(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    mux(source, click(), 48_000, tmp_path / "out.mp4", start=0.0, duration=1.0)


@pytest.mark.parametrize("name", ["a.h264", "a.avi"])
def test_pictures_without_times_are_refused(name, tmp_path):
    source = videos.make_video(tmp_path / name, options=B_FRAMES)
    with pytest.raises(MediaError, match="when each picture is shown"):
        mux(source, click(), 48_000, tmp_path / "out.mp4")


def test_unknown_suffix_and_missing_folder(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    with pytest.raises(InputError, match="must end in .mp4, .mov, .webm, .mkv"):
        mux(source, click(), 48_000, tmp_path / "out.gif")
    with pytest.raises(MediaError, match="could not be written"):
        mux(source, click(), 48_000, tmp_path / "nowhere" / "out.mp4")


@pytest.mark.parametrize("name", [f"{'x' * 251}.mp4", "take-12:30.mp4"])
def test_long_names_and_colons(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = videos.make_video("a.mp4")
    mux(source, click(), 48_000, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", name]
    assert videos.packets(tmp_path / name) == videos.packets(source)


def test_cancelling_leaves_nothing_behind(tmp_path):
    source, seen = videos.make_video(tmp_path / "a.mp4"), []

    def cancel(done, total):
        seen.append((done, total))
        if done > 0.5:
            raise KeyboardInterrupt

    (tmp_path / "out.mp4").write_text("the old file")
    with pytest.raises(KeyboardInterrupt):
        mux(source, click(), 48_000, tmp_path / "out.mp4", callback=cancel)
    assert seen and {total for _, total in seen} == {1.0}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "out.mp4"]
    assert (tmp_path / "out.mp4").read_text() == "the old file"


def test_damaged_source_is_copied_as_far_as_it_goes(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=90, container_options={"movflags": "faststart"})
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    report = mux(source, click(), 48_000, tmp_path / "out.mp4")
    assert 0 < report.seconds < 2.9
    assert payloads(tmp_path / "out.mp4") == payloads(source)


def test_probe_sees_the_new_sound(tmp_path):
    source = videos.make_video(tmp_path / "a.webm", **VP9)
    mux(source, click(), 48_000, tmp_path / "out.webm")
    info = probe(tmp_path / "out.webm")
    assert (info.has_audio, info.sample_rate, info.codec) == (True, 48_000, "vp9")
    assert info.duration == pytest.approx(1.0, abs=0.01)
