"""Scenes, timed prompts and windows in a real server, with the small model and the stock KSampler."""

import pytest
import torch

from hunyuan_foley_core import media, small_model
from tests.videos import make_video


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def graph(prompts: str, sampler: dict, **scenes) -> dict:
    """A video of 2.4 s to sound by timed prompts; `scenes` are inputs of Foley Scenes, none leave it out."""
    model, vae, siglip2, synchformer, clap = (
        getattr(small_model, name) for name in ("TRANSFORMER", "VAE", "SIGLIP2", "SYNCHFORMER", "CLAP")
    )
    made = {
        "model": node("FoleyLoadModel", model_name=model, weight_dtype="default"),
        "encoders": node(
            "FoleyLoadEncoders", siglip2_name=siglip2, synchformer_name=synchformer, clap_name=clap,
            tokenizer_name="tokenizer.json beside the CLAP file",
        ),
        "vae": node("FoleyLoadVAE", vae_name=vae),
        "load": node("LoadVideo", file="scenes.mp4"),
        "video": node("FoleyEncodeVideo", encoders=["encoders", 0], video=["load", 0], frame_rate=24.0, max_seconds=600.0),
        "text": node(
            "FoleyTimedPrompts", encoders=["encoders", 0], video=["video", 0], prompts=prompts, negative_prompt="noisy, harsh",
            bandwidth_tag="high-quality", seconds=8.0,
        ),
        "latent": node("FoleyEmptyLatent", video=["video", 0], seconds=8.0, batch_size=1),
        "sampler": sampler,
        "decode": node("FoleyDACDecode", samples=["sampler", 0], vae=["vae", 0]),
        "save": node("SaveAudio", audio=["decode", 0], filename_prefix="scenes"),
    }
    if scenes:
        made["scenes"] = node("FoleyScenes", **{"method": "times", "times": "", "threshold": 3.0, **scenes})
        made["video"]["inputs"]["scenes"] = ["scenes", 0]
    return made


PLACES = dict(model=["model", 0], positive=["text", 0], negative=["text", 1])
SETTINGS = dict(seed=1, steps=2, cfg=4.5, sampler_name="euler", denoise=1.0)
STOCK = node("KSampler", **PLACES, **SETTINGS, latent_image=["latent", 0], scheduler="simple")
OURS = node("FoleySampler", **PLACES, **SETTINGS, latent=["latent", 0], scheduler="linear", bandwidth_tag="as encoded")


@pytest.fixture(scope="module")
def hear(server):
    make_video(server.base / "input" / "scenes.mp4", frames=61, rate=25)

    def heard(graph):
        result = server.run(graph)
        assert result.status == "success", result.message
        (path,) = result.files(server.base)
        return torch.as_tensor(media.read_audio(path)[0])

    return heard


def test_scenes_and_timed_prompts_sound_alike_from_both_samplers(hear):
    prompts = "#1 hammering on a glass block\n* a wooden ball bounces"
    stock, ours = (hear(graph(prompts, sampler, times="0:01.2")) for sampler in (STOCK, OURS))
    assert stock.shape == ours.shape and torch.allclose(stock, ours, atol=1e-3)
    other = hear(graph("* hammering on a glass block", OURS, times="0:01.2"))
    # The first scene has the same prompt in both. (With a picture the small model hears little of a prompt.)
    first, second = slice(0, 48_000 * 11 // 10), slice(48_000 * 13 // 10, None)
    change = [float((other[..., part] - ours[..., part]).norm() / ours[..., part].norm()) for part in (first, second)]
    assert change[0] < 2e-4 < 1e-3 < change[1]


def test_a_layer_is_made_and_decoded_scene_by_scene(hear):
    made = graph("", OURS, times="0:01.2")
    words = dict(prompt="hammering on a glass block", negative_prompt="noisy, harsh", bandwidth_tag="high-quality")
    made["text"] = node("FoleyEncodeText", encoders=["encoders", 0], video=["video", 0], **words)
    sampled = hear(made)
    made["layer"] = node(
        "FoleyLayer", **{name: [name, 0] for name in ("model", "encoders", "vae", "video")}, **words, video_guided=True,
        seconds=8.0, seed=1, steps=2, cfg=4.5, sampler_name="euler", scheduler="linear",
    )
    made["save"]["inputs"]["audio"] = ["layer", 0]
    layer = hear({name: part for name, part in made.items() if name not in ("text", "latent", "sampler", "decode")})
    torch.testing.assert_close(layer, sampled, atol=1e-4, rtol=0)


def edit_graph(class_type: str, **settings) -> dict:
    """An edit of the sound `old.wav`, with the conditioning of the same video in two scenes."""
    made = graph("", OURS, times="0:01.2")
    made["text"] = node(
        "FoleyEncodeText", encoders=["encoders", 0], video=["video", 0], prompt="hammering on a glass block",
        negative_prompt="noisy, harsh", bandwidth_tag="high-quality", seconds=8.0,
    )
    made["old"] = node("LoadAudio", audio="old.wav")
    how = dict(seed=1, steps=2, cfg=4.5, sampler_name="euler", scheduler="linear", fade=0.05)
    made["edit"] = node(class_type, audio=["old", 0], vae=["vae", 0], **PLACES, **how, **settings)
    made["save"]["inputs"]["audio"] = ["edit", 0]
    return {name: part for name, part in made.items() if name not in ("latent", "sampler", "decode")}


@pytest.fixture
def old(server) -> torch.Tensor:
    """2.4 s of noise [1, N] at 48 kHz, as `old.wav` among the server's inputs."""
    sound = 0.05 * torch.randn(1, 48_000 * 12 // 5, generator=torch.Generator().manual_seed(5))
    media.write_audio(server.base / "input" / "old.wav", sound, 48_000)
    return sound


def test_a_retake_over_a_cut_keeps_all_around_it(hear, old):
    new = hear(edit_graph("FoleyRetake", start=0.8, end=1.6, strength=1.0))
    assert new.shape == old.shape
    changed = ((new - old).abs() > 1e-4).any(dim=0).nonzero()
    assert 38_400 <= int(changed.min()) < 39_000 and 76_200 < int(changed.max()) < 76_800


def test_a_sound_that_ends_before_the_cut_is_edited_in_its_scene(hear, old, server):
    media.write_audio(server.base / "input" / "old.wav", old[:, :48_000], 48_000)
    new = hear(edit_graph("FoleyRetake", start=0.2, end=0.6, strength=1.0))
    assert new.shape == (1, 48_000)
    torch.testing.assert_close(new[:, 28_800:], old[:, 28_800:48_000], atol=1e-4, rtol=0)


def test_scenes_go_on_beyond_the_picture_from_the_prompt_alone(hear, old):
    longer = hear(edit_graph("FoleyExtend", seconds=1.5))
    assert longer.shape == (1, 48_000 * 39 // 10)
    torch.testing.assert_close(longer[:, : 48_000 * 2], old[:, : 48_000 * 2], atol=1e-4, rtol=0)
    assert float(longer[:, -48_000:].std()) > 1e-5


def test_a_cut_behind_what_is_watched_is_left_out(hear):
    part = graph("#2 hammering on a glass block", OURS, times="0:01, 0:02.2")
    part["video"]["inputs"]["max_seconds"] = 2.1
    assert hear(part).shape == (1, 48_000 * 52 // 25)


@pytest.mark.parametrize("prompts, scenes, message", [
    ("0:03-0:01 bell", {}, "Line 1, character 6: found `0:01`"),
    ("0:03 bell", {}, "the prompt begins at 0:03, and the clip ends at 0:02.4"),
    ("#2 bell", {}, "there is no scene 2"),
    ("* bell", {"times": "0:05"}, "There is a cut at 0:05, and the video ends at 0:02.44"),
    ("* bell", {"times": "yes"}, "Number 1 of the cuts is `yes`"),
    ("* bell", {"method": "detect"}, "No video is connected"),
])
def test_mistakes_are_named_on_the_node(server, hear, prompts, scenes, message):
    result = server.run(graph(prompts, OURS, **scenes))
    assert result.status == "error" and message in result.message


def test_prompts_for_another_length_are_refused(server, hear):
    wrong = graph("0:00-0:01 bell", STOCK)
    del wrong["latent"]["inputs"]["video"]
    result = server.run(wrong)
    assert "timed for 2.4" in result.message and "the latent has 8.00 s" in result.message
