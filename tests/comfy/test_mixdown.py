"""Foley Mixdown and Foley Timeline on a real server."""

import pytest
import torch
from PIL import Image

from hunyuan_foley_core import media
from tests import loudness_meter, videos

from .test_nodes_server import node

RATE = 48_000
MIXDOWN = dict(
    mode="mix", gain_db=0.0, original_gain_db=0.0, offset=0.0, duck_depth_db=12.0, duck_attack_ms=50.0,
    duck_release_ms=400.0, duck_threshold_db=-40.0, set_loudness=True, loudness_lufs=-20.0, true_peak_dbtp=-2.0,
    stereo_width=1.0, channels="as mixed", sample_rate="48000", codec="automatic",
)


@pytest.fixture(scope="module")
def inputs(server):
    """A clip with a stereo track at 44.1 kHz, a silent one in WebM, and a mono sound of half a second of noise."""
    folder = server.base / "input"
    videos.make_video(
        folder / "talk.mp4", frames=60, waveform=videos.sine(2.0, rate=44_100, channels=2), audio_rate=44_100,
        audio_layout="stereo",
    )
    videos.make_video(folder / "mute.webm", codec="libvpx-vp9", frames=30, rate=25)
    noise = torch.zeros(1, 2 * RATE)
    noise[:, RATE // 2 : RATE] = 0.1 * torch.randn(RATE // 2, generator=torch.Generator().manual_seed(0))
    media.write_audio(folder / "noise.flac", noise, RATE)
    return folder


def graph(video: str, **changes) -> dict:
    return {
        "load": node("LoadVideo", file=video),
        "sound": node("LoadAudio", audio="noise.flac"),
        "mixdown": node("FoleyMixdown", video=["load", 0], audio=["sound", 0], **{**MIXDOWN, **changes}),
        "film": node("SaveVideo", video=["mixdown", 0], filename_prefix="film", format="auto", codec="auto"),
        "wave": node("SaveAudio", audio=["mixdown", 1], filename_prefix="wave"),
        "view": node("FoleyTimeline", video=["mixdown", 0], audio=["mixdown", 1], width=800, title="A clip",
                     timed_prompts="0:00.5-0:01 noise\n* a tone"),
    }


def made(server, run_graph: dict) -> dict:
    result = server.run(run_graph)
    assert result.status == "success", result.message
    return {path.suffix: path for path in result.files(server.base)}


def test_a_mixdown_has_its_loudness_in_both_outputs(server, inputs):
    files = made(server, graph("talk.mp4", mode="duck original"))
    for suffix in (".mp4", ".flac"):
        waveform, rate = media.read_audio(files[suffix], duration=2.0)
        assert (rate, waveform.shape[0]) == (RATE, 2)
        assert loudness_meter.loudness(waveform) == pytest.approx(-20, abs=0.5)
        assert loudness_meter.true_peak(waveform) <= -2
    assert videos.packets(files[".mp4"]) == videos.packets(inputs / "talk.mp4")
    picture = Image.open(files[".png"])
    assert picture.size[0] == 800 and picture.size[1] > 500


def test_replacing_in_webm_with_a_codec_that_it_does_not_hold(server, inputs):
    files = made(server, graph("mute.webm", mode="replace", set_loudness=False, codec="flac", sample_rate="44100"))
    waveform, rate = media.read_audio(files[".flac"])
    assert (rate, waveform.shape) == (44_100, (1, round(1.2 * 44_100)))


@pytest.mark.parametrize("changes, place, message", [
    (dict(mode="duck foley"), "FoleyMixdown", "no sound track"),
    (dict(mode="replace", codec="opus", sample_rate="44100"), "FoleyMixdown", "opus at 44100 Hz"),
])
def test_what_cannot_be_is_one_paragraph_on_the_node(server, inputs, changes, place, message):
    result = server.run(graph("mute.webm", **changes))
    assert (result.status, result.error["node_type"]) == ("error", place)
    assert message in result.message and "\n" not in result.message


def test_pictures_in_memory_and_a_timeline_without_sound(server, inputs):
    run_graph = graph("mute.webm", mode="replace")
    run_graph["parts"] = node("GetVideoComponents", video=["load", 0])
    run_graph["again"] = node("CreateVideo", images=["parts", 0], fps=25.0)
    run_graph["mixdown"]["inputs"]["video"] = ["again", 0]
    run_graph["view"] = node("FoleyTimeline", video=["again", 0], width=640, title="")
    files = made(server, run_graph)
    assert media.read_audio(files[".mp4"], duration=1.2)[0].shape[1] == round(1.2 * RATE)
    assert Image.open(files[".png"]).size[0] == 640


def test_a_timeline_of_nothing_says_so(server):
    result = server.run({"view": node("FoleyTimeline", width=800, title="")})
    assert result.status == "error" and "neither a picture nor a sound" in result.message
