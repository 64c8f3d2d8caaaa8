"""Streaming decode against what the clips were made of."""

import gc
import http.server
import io
import threading
from fractions import Fraction

import av
import pytest
import torch

from hunyuan_foley_core.errors import InputError, MediaError
from hunyuan_foley_core.media import DecodeReport, picture, probe, select_frames, stream_frames
from hunyuan_foley_core.media.packets import decoded
from tests import videos

VP9 = dict(codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8"})
B_FRAMES = {"preset": "veryfast", "bf": "2", "g": "30"}


def picks(frames, rate: str) -> list[int]:
    return [videos.index_of(f.image) for f in frames for _ in range(getattr(f, f"{rate}_repeats"))]


def assert_chosen(source, times: list[float], **options):
    """The stream shows the frames that the rule picks from these times, upright."""
    frames = list(stream_frames(source, **options))
    assert picks(frames, "visual") == select_frames(times, 8)
    assert picks(frames, "sync") == select_frames(times, 25)
    assert all(videos.is_upright(f.image) for f in frames)
    return frames


KINDS = {
    "h264 with AAC": ("a.mp4", dict(waveform=videos.sine(1.0))),
    "B-frames": ("a.mp4", dict(options=B_FRAMES)),
    "VP9 in webm": ("a.webm", VP9),
    "VP9 with alpha": ("a.webm", dict(VP9, pix_fmt="yuva420p")),
    "ProRes 4444": ("a.mov", dict(codec="prores_ks", pix_fmt="yuva444p10le")),
    "PNG with alpha": ("a.mov", dict(codec="png", pix_fmt="rgba")),
    "h264 in 10 bit": ("a.mp4", dict(pix_fmt="yuv420p10le")),
    "hevc in 10 bit": (
        "a.mp4",
        dict(codec="libx265", pix_fmt="yuv420p10le", options={"preset": "ultrafast", "x265-params": "log-level=none"}),
    ),
    "odd size": ("a.mp4", dict(size=(65, 47), pix_fmt="yuv444p")),
    "raw stream without times": ("a.h264", dict(rate=25, format="h264")),
    "h264 with B-frames in AVI": ("a.avi", dict(options=B_FRAMES)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_video(kind, tmp_path):
    name, options = KINDS[kind]
    source = videos.make_video(tmp_path / name, **options)
    rate = options.get("rate", 30)
    unit = 1000 if name.endswith("webm") else None  # webm keeps whole milliseconds
    times = [round(k * unit / rate) / unit if unit else k / rate for k in range(30)]
    frames = assert_chosen(source, times)
    width, height = options.get("size", videos.SIZE)
    assert frames[0].image.shape == (3, height, width) and frames[0].image.dtype == torch.uint8


def test_ntsc_rate(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", rate=Fraction(30000, 1001), frames=60)
    assert_chosen(source, [k * 1001 / 30000 for k in range(60)])
    assert probe(source).average_rate == Fraction(30000, 1001)


def test_variable_rate_goes_by_timestamps(tmp_path):
    times = [0, 20, 100, 133, 283, 293, 338, 371, 404, 424, 504, 900, 901]
    source = videos.make_video(tmp_path / "a.mp4", times_ms=times)
    assert_chosen(source, [ms / 1000 for ms in times])


def test_picture_that_starts_late_is_held_from_the_start(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", first_pts=3)
    frames = assert_chosen(source, [(k + 3) / 30 for k in range(30)])
    assert frames[0].sync_repeats == 3


def test_hours_of_offset_count_from_the_start_of_the_file(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", first_pts=30 * 7200)
    assert_chosen(source, [k / 30 for k in range(30)])


@pytest.mark.parametrize("turned", [90, 180, 270, "mirror"])
def test_pictures_stand_upright(turned, tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", turned=turned)
    frames = assert_chosen(source, [k / 30 for k in range(30)])
    assert frames[0].image.shape == (3, 48, 64)
    info = probe(source)
    assert (info.width, info.height) == (64, 48)
    assert info.rotation == (180 if turned == "mirror" else turned)


# Weights of red and blue in luma, by the standards: BT.709, BT.601 (also where nothing is said), BT.2020.
LUMA = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 2: (0.299, 0.114), 9: (0.2627, 0.0593)}


@pytest.mark.parametrize("matrix", LUMA)
@pytest.mark.parametrize("colour_range", [0, 1, 2])
def test_colours_follow_matrix_and_range(matrix, colour_range):
    levels = (80, 100, 200)
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane, level in zip(frame.planes, levels, strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    frame.colorspace, frame.color_range = matrix, colour_range
    kr, kb = LUMA[matrix]
    full = colour_range == 2
    y = levels[0] if full else (levels[0] - 16) * 255 / 219
    cb, cr = ((level - 128) * (1 if full else 255 / 224) for level in levels[1:])
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    expected = (red, (y - kr * red - kb * blue) / (1 - kr - kb), blue)
    # swscale calculates in whole numbers; the wrong matrix or range is off by 10 and more
    assert picture.Upright()(frame)[:, 3, 3].tolist() == pytest.approx(expected, abs=2.5)


def test_source_in_memory_can_be_read_again(tmp_path):
    source = io.BytesIO(videos.make_video(tmp_path / "a.mp4").read_bytes())
    for _ in range(2):
        assert_chosen(source, [k / 30 for k in range(30)])


@pytest.mark.parametrize("start, duration", [(0.1, None), (0.5, 1.0), (2.9, 0.8), (3.0, 0.04), (1 / 3, 2 / 3)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_trim(start, duration, name, tmp_path):
    source = videos.make_video(tmp_path / name, frames=120, options=B_FRAMES)
    frames = list(stream_frames(source, start=start, duration=duration))
    tick = 15360 if name == "a.mp4" else 1000
    begin = int(start * tick + 1e-6)
    stamps = [round(k * tick / 30) - begin for k in range(120)]
    end = len(stamps) if duration is None else sum(t < duration * tick - 1e-6 for t in stamps)
    first = sum(t < 0 for t in stamps)
    times = [t / tick for t in stamps[first:end]]
    assert picks(frames, "sync") == [first + k for k in select_frames(times, 25)]
    assert picks(frames, "visual") == [first + k for k in select_frames(times, 8)]
    assert frames[0].time < 1 / 30


def test_a_start_rounded_to_decimals_takes_the_frame_it_means(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", rate=Fraction(30000, 1001))
    frame = next(stream_frames(source, start=round(10 * 1001 / 30000, 5)))
    assert videos.index_of(frame.image) == 10


def test_a_start_is_the_fraction_it_stands_for(tmp_path):
    # AVI counts time in frames, and the float nearest to a third is just below the tenth of them.
    source = videos.make_video(tmp_path / "a.avi", codec="mpeg4")
    frames = list(stream_frames(source, start=1 / 3, duration=1 / 3))
    assert (picks(frames, "sync")[0], picks(frames, "sync")[-1]) == (10, 19)


def test_limit_in_seconds(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=60)
    assert picks(stream_frames(source, max_seconds=1.0), "visual")[-1] == 30  # the frame at the limit still counts
    assert picks(stream_frames(source, max_seconds=0.99), "visual")[-1] == 27
    assert picks(stream_frames(source, max_seconds=None), "visual")[-1] == 57


def test_only_chosen_frames_are_converted_and_none_is_kept(tmp_path, monkeypatch):
    source = videos.make_video(tmp_path / "a.mp4", rate=60, frames=120)
    converted, inner = [], picture._converted
    monkeypatch.setattr(picture, "_converted", lambda frame: converted.append(frame.pts) or inner(frame))
    gc.collect()
    gc.disable()
    try:
        frames = stream_frames(source)
        seen = sum(1 for _ in zip(range(40), frames))
        alive = sum(type(o) is av.VideoFrame for o in gc.get_objects())
        seen += sum(1 for _ in frames)
    finally:
        gc.enable()
    assert seen == len(converted) == len(set(converted)) < 60
    assert alive < 10  # what threads hold back, not what the clip holds


def test_large_pictures(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", size=(1920, 1080), frames=6)
    frames = assert_chosen(source, [k / 30 for k in range(6)])
    assert frames[0].image.shape == (3, 1080, 1920)


def test_report_and_progress(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    report, seen = DecodeReport(), []
    list(stream_frames(source, callback=lambda done, total: seen.append((done, total)), report=report))
    assert (report.decoded, report.failed, report.visual_frames, report.sync_frames) == (30, 0, 8, 25)
    assert report.seconds == 1.0 and report.warnings == []
    assert seen == sorted(seen) and len(seen) == 30 and {total for _, total in seen} == {1.0}


def test_callback_cancels(tmp_path):
    def cancel(done, total):
        if done > 0.2:
            raise KeyboardInterrupt

    source = videos.make_video(tmp_path / "a.mp4")
    taken = []
    with pytest.raises(KeyboardInterrupt):
        for frame in stream_frames(source, callback=cancel):
            taken.append(frame)
    assert 0 < len(taken) < 10


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damage_in_the_middle_is_passed_over_and_told(name, tmp_path):
    source = videos.make_video(tmp_path / name, frames=120, options=B_FRAMES)
    videos.damage(source, 0.4, 0.5)
    report = DecodeReport()
    chosen = picks(stream_frames(source, report=report), "sync")
    assert chosen[:20] == select_frames([k / 30 for k in range(120)], 25)[:20] or name == "a.ts"
    assert chosen[-1] > 110  # it goes on after the damage
    assert any("damaged" in text or "no new picture" in text for text in report.warnings)


def test_frames_held_back_behind_a_damaged_one_are_still_taken():
    class LastPacket:
        size, pts = 0, None
        answers = iter([av.error.InvalidDataError(1, "damaged"), ["frame", "frame"]])

        def decode(self):
            answer = next(self.answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    report = DecodeReport()
    assert list(decoded(LastPacket(), report)) == ["frame", "frame"]
    assert (report.decoded, report.failed) == (2, 1)


def test_file_that_breaks_off(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4", frames=90, container_options={"movflags": "faststart"})
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    report = DecodeReport()
    chosen = picks(stream_frames(source, report=report), "sync")
    assert chosen and chosen[-1] < 85
    assert any("end after" in text for text in report.warnings)


def _text(path):
    path.write_text("not a video at all " * 50)


def _cut_off(path):
    videos.make_video(path)
    path.write_bytes(path.read_bytes()[:-200])  # the index comes last


def _silence(path):
    videos.make_audio(path, videos.sine(0.5), codec="aac")


def _all_damaged(path):
    videos.make_video(path, options={"preset": "ultrafast", "g": "1"})
    data = path.read_bytes()
    begin, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    path.write_bytes(data[:begin] + bytes(end - begin) + data[end:])


@pytest.mark.parametrize(
    "spoil, found",
    [
        (lambda path: None, "no file"),
        (lambda path: path.mkdir(), "no file"),
        (lambda path: path.write_bytes(b""), "cannot be opened"),
        (_text, "cannot be opened"),
        (_cut_off, "cannot be opened"),
        (_silence, "no moving picture"),
        (_all_damaged, "could be decoded"),
    ],
    ids=["missing", "folder", "empty", "text", "cut off", "sound only", "nothing decodes"],
)
def test_files_that_hold_no_picture(spoil, found, tmp_path):
    path = tmp_path / "a.mp4"
    spoil(path)
    with pytest.raises(MediaError, match=found) as caught:
        list(stream_frames(path))
    assert caught.value.expected and caught.value.remedy
    assert "a.mp4" in str(caught.value)


def test_playlists_do_not_reach_out(tmp_path):
    asked = []

    class Server(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/a.ts"
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{url}\n#EXT-X-ENDLIST\n"
        (tmp_path / "a.m3u8").write_text(playlist)
        with (tmp_path / "a.m3u8").open("rb") as opened, pytest.raises(MediaError):
            list(stream_frames(opened))
        server.shutdown()
    assert asked == []


def test_start_past_the_end(tmp_path):
    source = videos.make_video(tmp_path / "a.mp4")
    with pytest.raises(MediaError, match="from 5 s on"):
        list(stream_frames(source, start=5.0))


@pytest.mark.parametrize("trim", [dict(start=-1.0), dict(start=float("nan")), dict(duration=0.0), dict(duration=-2.0)])
def test_impossible_trims(trim, tmp_path):
    with pytest.raises(InputError):
        stream_frames(tmp_path / "a.mp4", **trim)


def test_probe(tmp_path):
    info = probe(videos.make_video(tmp_path / "a.mp4", waveform=videos.sine(1.0, channels=2), audio_layout="stereo"))
    assert (info.width, info.height, info.rotation, info.frames, info.codec) == (64, 48, 0, 30, "h264")
    assert (info.duration, info.average_rate) == (1.0, 30)
    assert (info.has_audio, info.sample_rate, info.audio_channels) == (True, 48_000, 2)
    info = probe(videos.make_video(tmp_path / "a.webm", **VP9))
    assert (info.duration, info.has_audio, info.sample_rate, info.codec) == (1.0, False, None, "vp9")
