"""Edits, layers and takes through ComfyUI: as the core makes them, and on a real server."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hunyuan_foley_core import media

from .test_nodes_server import node, text_graph

STEPS, WIDTH, FRAMES = 3, 128, 100  # of the features in conftest.py


def relative(a, b):
    return float((a - b).norm() / b.norm())


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# In this process.


@pytest.fixture(scope="module")
def core(nodes):
    def load(name):
        return importlib.import_module(f"foley_pack.{name}")

    nodes.editing, nodes.takes, nodes.start = load("nodes.editing"), load("nodes.takes"), load("hunyuan_foley_core.start")
    nodes.edits, nodes.loops = load("hunyuan_foley_core.editing"), load("hunyuan_foley_core.seamless_loop")
    nodes.conditioning, nodes.latent = load("nodes.conditioning"), load("nodes.latent")
    nodes.features = load("hunyuan_foley_core.conditions").VideoFeatures
    return nodes


@pytest.fixture
def sampled(core, patcher, conditions):
    def sampled(latent, **how):
        with torch.inference_mode():
            return core.sampler.sample_latents(patcher, *conditions, latent, seed=7, steps=STEPS, cfg=4.5, **how)["samples"]

    return sampled


def of_the_core(core, path, features, noise, **how):
    transformer = core.checkpoint.load_transformer(path, dtype=torch.float32)
    pair = dict(text=features.text, negative_text=features.negative)
    seen = {"visual": features.visual, "sync": features.sync}
    return core.sampling.sample(transformer, noise, steps=STEPS, **{**seen, **how, **pair})


@pytest.mark.parametrize("strength, masked", [(0.6, False), (1.0, True), (0.6, True), (0.0, False)])
def test_denoise_and_noise_mask_mean_strength_and_mask(core, sampled, path, features, strength, masked):
    old, mask = normal(4, 1, WIDTH, FRAMES), core.edits.region_mask(core.edits.Region(0.6, 1.4, 0.2), 2.0, 0, FRAMES)
    latents = sampled({"samples": old, **({"noise_mask": mask} if masked else {})}, denoise=strength)
    start = core.start.Start(old, strength, mask if masked else None)
    noise = core.sampling.make_noise(1, WIDTH, FRAMES, seed=7)
    assert relative(latents, of_the_core(core, path, features, noise, start=start)) < 1e-5


def test_a_loop_is_that_of_the_core(core, patcher, path, features, conditions):
    latents = []
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        decode = {"decode": lambda self, x: latents.append(x) or x}
        patch.setattr(core.editing, "VAECodec", lambda vae: type("Codec", (), decode))
        patch.setattr(core.editing, "decode_loop", lambda x, decode, seconds: decode(None, x))
        core.editing.FoleySeamlessLoop.execute(
            patcher, *conditions, None, {"samples": torch.zeros(1, WIDTH, FRAMES)}, seed=7, steps=STEPS, cfg=4.5,
        )
    seen = core.features(features.visual, features.sync, 2.0)
    margin = core.loops.margin_of(FRAMES)
    around = core.loops.features_around(seen, FRAMES, margin)
    noise = core.sampling.make_noise(1, WIDTH, FRAMES, seed=7)
    expected = of_the_core(
        core, path, features, noise, visual=around.visual, sync=around.sync, margin=margin
    )
    assert relative(latents[0], expected) < 1e-5
    assert relative(latents[0], of_the_core(core, path, features, noise)) > 1e-3


def test_prompts_of_a_loop_may_hold_for_a_part_of_it(core, patcher, features, conditions, monkeypatch):
    """Two spans that ask for the same make the loop that one prompt makes; another prompt in one of them changes it."""
    latents = []
    decode = {"decode": lambda self, x: latents.append(x) or x}
    monkeypatch.setattr(core.editing, "VAECodec", lambda vae: type("Codec", (), decode))
    monkeypatch.setattr(core.editing, "decode_loop", lambda x, decode, seconds: decode(None, x))

    def loop(*texts):
        positive, negative = conditions
        ramp = torch.linspace(0, 1, FRAMES)
        masks = (ramp[None], 1 - ramp[None])
        timed = [[text, {**positive[0][1], "mask": mask}] for text, mask in zip(texts, masks)] if texts else positive
        with torch.inference_mode():
            core.editing.FoleySeamlessLoop.execute(
                patcher, timed, negative, None, {"samples": torch.zeros(1, WIDTH, FRAMES)}, seed=7, steps=STEPS, cfg=4.5,
            )
        return latents[-1]

    whole = loop()
    assert relative(loop(features.text, features.text), whole) < 1e-5
    assert relative(loop(features.text, 2 * features.text.flip(1)), whole) > 1e-4


def test_steps_of_a_loop_with_prompts_by_time_leave_nothing_behind(core, patcher, features, conditions, monkeypatch):
    monkeypatch.setattr(core.editing, "decode_loop", lambda x, decode, seconds: x)
    monkeypatch.setattr(core.editing, "VAECodec", lambda vae: SimpleNamespace(decode=None))
    masks = torch.stack((torch.arange(FRAMES) < 40, torch.arange(FRAMES) >= 40)).float()
    timed = [[features.text, {core.conditioning.MASK_KEY: mask[None]}] for mask in masks]
    caches, get = {}, core.cache.PreparedCache.get
    monkeypatch.setattr(core.cache.PreparedCache, "get", lambda self, *args: caches.update({id(self): self}) or get(self, *args))

    def kept(steps):
        caches.clear()
        with torch.inference_mode():
            latent = {"samples": torch.zeros(1, WIDTH, FRAMES)}
            core.editing.FoleySeamlessLoop.execute(patcher, timed, conditions[1], None, latent, seed=7, steps=steps, cfg=4.5)
        (cache,) = caches.values()
        return len(cache._parts), len(cache._entries)

    assert kept(2) == kept(6)


def test_a_loop_is_as_long_as_the_picture(core, patcher, features, conditions, monkeypatch):
    """A picture of 2.02 s of which the model counts 2.00; prompts are timed for what it counts."""
    made = []
    monkeypatch.setattr(core.editing, "VAECodec", lambda vae: type("Codec", (), {"decode": lambda self, x: x}))
    monkeypatch.setattr(core.editing, "decode_loop", lambda x, decode, seconds: made.append((x.shape[-1], seconds)) or x)
    video = core.conditioning.FoleyVideo(core.features(features.visual, features.sync, 2.0), {}, 2.023)
    latent = core.latent.FoleyEmptyLatent.execute(8.0, 2, video).args[0]
    assert latent["samples"].shape[-1] == FRAMES
    (text, extras), = conditions[0]
    timed = [[text, {**extras, "mask": share * torch.ones(1, FRAMES)}] for share in (0.5, 0.5)]
    with torch.inference_mode():
        core.editing.FoleySeamlessLoop.execute(patcher, timed, conditions[1], None, latent, seed=7, steps=1, cfg=4.5)
    assert made == [(101, 2.023)]


def test_masks_are_as_long_as_the_sound(core, patcher, features, monkeypatch):
    """Prompts timed for 2.96 s: with a film's own sound of 3 s, and with what goes on behind them."""
    shares = torch.rand(148, generator=torch.Generator().manual_seed(0))
    positive = [[features.text, {"mask": mask[None]}] for mask in (shares, 1 - shares)]
    negative, seen = [[features.negative, {}]], []
    monkeypatch.setattr(core.editing, "sample_latents", lambda model, *a, **k: seen.append(a[0]) or a[2])
    scenes = [[text, {**extras, core.conditioning.CUTS_KEY: (60,)}] for text, extras in positive]
    for conditioning, first in ((positive, 0), (positive, 96), (scenes, 0)):
        core.editing.PartSampler(patcher, conditioning, negative)(torch.zeros(1, WIDTH, 150), None, first)
        masks = torch.stack([extras["mask"] for _, extras in seen[-1]])
        assert masks.shape == (2, 1, 150) and torch.allclose(masks.sum(dim=0), torch.ones(1, 150))
        assert torch.equal(masks[0, 0, : 148 - first], shares[first:]) and masks[0, 0, -1] == shares[-1]
    assert positive[0][1]["mask"].shape == (1, 148)


def test_a_take_made_alone_is_that_of_the_batch(core, sampled):
    batch = {"samples": torch.zeros(3, WIDTH, FRAMES)}
    together, alone = sampled(batch), core.takes.pick_latent(batch, 2)
    assert alone["batch_index"] == [2]
    assert torch.equal(
        core.sampling.make_noise(3, WIDTH, FRAMES, seed=7)[2:], core.sampling.make_noise(1, WIDTH, FRAMES, 7, first_take=2)
    )
    assert relative(sampled(alone), together[2:]) < 1e-5
    assert relative(together[:1], together[2:]) > 0.1


def test_a_take_of_a_take_keeps_its_place(core):
    latent = {"samples": normal(1, 4, 2, 5), "noise_mask": torch.arange(4.0).reshape(4, 1, 1), "batch_index": [4, 5, 6, 7]}
    picked = core.takes.pick_latent(latent, 1)
    assert picked["batch_index"] == [5] and picked["noise_mask"].item() == 1
    assert torch.equal(picked["samples"], latent["samples"][1:2])
    assert core.takes.pick_latent(picked, 0)["batch_index"] == [5]


def test_the_nearest_seed_is_found_before_the_node(core):
    prompt = {
        "noise": {"inputs": {"noise_seed": 11}}, "old": {"inputs": {"seed": 5}},
        "sampler": {"inputs": {"latent": ["old", 0], "noise": ["noise", 0], "seed": ["noise", 0]}},
        "decode": {"inputs": {"samples": ["sampler", 0], "vae": ["vae", 0]}}, "pick": {"inputs": {"audio": ["decode", 0]}},
    }
    assert core.takes.nearest_seed(prompt, "old") == 5
    assert core.takes.nearest_seed({"pick": prompt["pick"], "decode": prompt["decode"]}, "pick") is None
    prompt["sampler"]["inputs"]["seed"] = 0
    assert core.takes.nearest_seed(prompt, "pick") == 0


def test_a_part_of_a_long_sound_sees_its_part_of_the_picture(core, patcher, features, monkeypatch):
    visual, sync = normal(1, 1, 160, WIDTH), normal(2, 1, 61 * 8, WIDTH)  # 20 s
    lengths = {core.model.LENGTHS_KEY: (160, 61 * 8)}
    positive = [[features.text, {**lengths, core.model.VISUAL_KEY: visual, core.model.SYNC_KEY: sync}]]
    pairs = []
    monkeypatch.setattr(core.editing, "sample_latents", lambda model, *a, **k: pairs.append(a) or {"samples": a[2]["samples"]})
    make = core.editing.PartSampler(patcher, positive, [[features.negative, lengths]])
    make(torch.zeros(1, WIDTH, 400), torch.ones(1, 1, 400), 160)
    (_, seen), (_, unseen) = pairs[0][0][0], pairs[0][1][0]
    assert torch.equal(seen[core.model.SYNC_KEY], sync[:, 10 * 8 : 34 * 8]) and make.warnings == []
    assert torch.equal(seen[core.model.VISUAL_KEY], visual[:, 26 : 26 + 64])
    assert seen[core.model.LENGTHS_KEY] == unseen[core.model.LENGTHS_KEY] == (64, 24 * 8)
    make(torch.zeros(1, WIDTH, 400), None, 800)  # 4 s of it, then 4 s without picture
    assert core.model.VISUAL_KEY not in pairs[1][0][0][1] and make.warnings == [core.editing.PICTURE_ENDS]


def test_a_retake_over_scenes_is_decoded_scene_by_scene(core, patcher, features, monkeypatch):
    class Vae:
        decoded = []

        def encode(self, sound):
            return torch.zeros(1, WIDTH, sound.shape[1] // 960)

        def decode(self, latents):
            self.decoded.append(latents.shape[-1])
            return torch.zeros(1, latents.shape[-1] * 960, 1)

    monkeypatch.setattr(core.editing, "require_foley_vae", lambda vae: None)
    monkeypatch.setattr(core.editing, "sample_latents", lambda model, positive, negative, latent, **how: latent)
    retake = type("Retake", (core.editing.FoleyRetake,), {"hidden": SimpleNamespace(unique_id="1")})
    positive = [[features.text, {core.conditioning.CUTS_KEY: (70,)}]]
    sound = {"waveform": torch.randn(1, 2, 960 * 120), "sample_rate": 48_000}
    retake.execute(
        sound, patcher, positive, [[features.negative, {}]], Vae(), start=1.0, end=2.0, fade=0.05, strength=1.0, **HOW
    )
    assert Vae.decoded == [71, 50]  # the first with a frame that fades out


# On a server.


HOW = dict(seed=1, steps=STEPS, cfg=4.5, sampler_name="euler", scheduler="linear")


def executed(result) -> set:
    return {event["data"]["node"] for event in result.events if event["type"] == "executing"} - {None}


def layers_graph(count=2, **levels) -> dict:
    graph = {name: text_graph()[name] for name in ("model", "encoders", "vae")}
    shared = dict(model=["model", 0], encoders=["encoders", 0], vae=["vae", 0], negative_prompt="", bandwidth_tag="none")
    for number in range(1, count + 1):
        settings = {**HOW, "seed": number, "prompt": f"sound {number}", "seconds": 0.2 + 0.1 * number, "video_guided": True}
        graph[f"layer {number}"] = node("FoleyLayer", **shared, **settings)
    inputs = {f"layer_{number}": [f"layer {number}", 0] for number in range(1, count + 1)}
    for number in range(1, 9):
        inputs |= {f"gain_{number}": -12.0, f"mute_{number}": False}  # what is saved must not clip
    graph["mix"] = node("FoleyLayerMix", **{**inputs, **levels})
    graph["save"] = node("SaveAudio", audio=["mix", 0], filename_prefix="mix")
    graph["save stems"] = node("SaveAudio", audio=["mix", 1], filename_prefix="stems")
    return graph


def sounds(server, result) -> dict:
    """Waveforms by the beginning of their names, in order."""
    assert result.status == "success", result.message
    found = {}
    for path in sorted(result.files(server.base), key=lambda path: path.name):
        found.setdefault(path.name.split("_")[0], []).append(media.read_audio(path)[0])
    return found


def test_a_changed_level_mixes_again_and_makes_nothing(server):
    first = server.run(layers_graph())
    assert {"layer 1", "layer 2"} <= executed(first)
    made = sounds(server, first)
    assert made["mix"][0].shape == (1, 19_200) and not made["stems"][0][:, 14_400:].any()
    torch.testing.assert_close(made["mix"][0], sum(made["stems"]), atol=2e-4, rtol=0)

    quieter = server.run(layers_graph(gain_1=-18.0, mute_2=True))
    assert executed(quieter) == {"mix", "save", "save stems"}
    softly = sounds(server, quieter)
    torch.testing.assert_close(softly["mix"][0], made["stems"][0] * 10 ** (-6 / 20), atol=2e-4, rtol=0)

    graph = layers_graph()
    graph["layer 2"]["inputs"]["prompt"] = "something else"
    assert executed(server.run(graph)) == {"layer 2", "mix", "save", "save stems"}


@pytest.fixture(scope="module")
def stereo(server) -> torch.Tensor:
    """2 s of noise at 44.1 kHz in 16 bits, as `stereo.wav` among the server's inputs."""
    sound = (normal(5, 2, 88_200) * 3000).round().clamp(-32768, 32767) / 32768
    media.write_audio(Path(server.base) / "input" / "stereo.wav", sound, 44_100)
    return sound


def edit_graph(class_type: str, **settings) -> dict:
    graph = text_graph()
    pair = dict(model=["model", 0], positive=["text", 0], negative=["text", 1], vae=["vae", 0])
    graph["load"] = node("LoadAudio", audio="stereo.wav")
    graph["edit"] = node(class_type, audio=["load", 0], **pair, **{**HOW, **settings})
    graph["save"] = node("SaveAudio", audio=["edit", 0], filename_prefix="edit")
    return {name: part for name, part in graph.items() if name not in ("latent", "sampler", "decode")}


def saved(server, graph) -> torch.Tensor:
    return sounds(server, server.run(graph))["edit"][0]


def test_a_retake_leaves_a_stereo_track_as_it_is(server, stereo):
    graph = edit_graph("FoleyRetake", start=0.5, end=1.0, fade=0.05, strength=1.0)
    # As it goes through ComfyUI's files without an edit.
    untouched = saved(server, {"load": graph["load"], "save": node("SaveAudio", audio=["load", 0], filename_prefix="edit")})
    again = saved(server, graph)
    changed = (again != untouched).any(dim=0).nonzero()
    assert again.shape == stereo.shape
    assert 22_050 <= int(changed.min()) < 22_100 and 44_000 < int(changed.max()) < 44_100


def test_an_extended_sound_begins_with_the_old_one(server, stereo):
    graph = edit_graph("FoleyExtend", seconds=0.5, fade=0.1)
    longer = saved(server, graph)
    assert longer.shape == (2, 110_250) and float(longer[:, 90_000:].std()) > 0.01
    torch.testing.assert_close(longer[:, :83_000], stereo[:, :83_000], atol=1e-4, rtol=0)


def test_a_loop_and_a_masked_region_are_made_by_stock_parts(server, stereo):
    graph = text_graph()
    pair = dict(model=["model", 0], positive=["text", 0], negative=["text", 1], vae=["vae", 0])
    graph["loop"] = node("FoleySeamlessLoop", latent=["latent", 0], **pair, **HOW)
    graph["latent"]["inputs"]["seconds"] = 1.0
    graph["save loop"] = node("SaveAudio", audio=["loop", 0], filename_prefix="loop")
    graph["load"] = node("LoadAudio", audio="stereo.wav")
    graph["encode"] = node("FoleyDACEncode", audio=["load", 0], vae=["vae", 0])
    graph["mask"] = node("FoleyRegionMask", samples=["encode", 0], start=0.5, end=1.0, fade=0.05)
    graph["sampler"] = node(
        "KSampler", model=["model", 0], positive=["text", 0], negative=["text", 1], latent_image=["mask", 0],
        seed=1, steps=STEPS, cfg=4.5, sampler_name="euler", scheduler="simple", denoise=1.0,
    )
    made = sounds(server, server.run(graph))
    assert made["loop"][0].shape == (1, 48_000) and made["sound"][0].shape == (1, 96_000)


def test_takes_are_picked_and_say_how_to_make_them_alone(server):
    graph = text_graph(latent__batch_size=3, sampler__seed=41)
    graph["pick"] = node("FoleyPickTake", index=1, audio=["decode", 0])
    graph["save"]["inputs"]["audio"] = ["pick", 0]
    result = server.run(graph)
    (picked,) = sounds(server, result)["sound"]
    assert "Take 1 of seed 41" in result.outputs["pick"]["text"][0]
    alone = text_graph(sampler__seed=41, latent__batch_size=3)
    alone["pick"] = node("FoleyPickTake", index=1, latent=["latent", 0])
    alone["sampler"]["inputs"]["latent"] = ["pick", 1]
    (again,) = sounds(server, server.run(alone))["sound"]
    torch.testing.assert_close(again, picked, atol=1e-4, rtol=0)


def without_layers() -> dict:
    graph = layers_graph()
    for number in (1, 2):
        graph["mix"]["inputs"].pop(f"layer_{number}")
    return graph


def take_past_the_end() -> dict:
    graph = text_graph(latent__batch_size=2)
    graph["pick"] = node("FoleyPickTake", index=2, latent=["latent", 0])
    graph["sampler"]["inputs"]["latent"] = ["pick", 1]
    return graph


def take_of_nothing_connected() -> dict:
    graph = text_graph()
    graph["pick"] = node("FoleyPickTake", index=0, latent=["latent", 0])
    graph["save"]["inputs"]["audio"] = ["pick", 0]
    return graph


def short_loop() -> dict:
    graph = edit_graph("FoleySeamlessLoop")
    graph["latent"] = text_graph()["latent"]
    graph["edit"]["inputs"].pop("audio")
    graph["edit"]["inputs"]["latent"] = ["latent", 0]
    return graph


@pytest.mark.parametrize("graph, message", [
    (lambda: edit_graph("FoleyRetake", start=1.5, end=2.5, fade=0.05, strength=1.0), "the sound is 2.000 s long"),
    (lambda: edit_graph("FoleyRetake", start=1.5, end=1.0, fade=0.05, strength=1.0), "from 1.5 s to 1 s"),
    (lambda: edit_graph("FoleyExtend", seconds=1.0, fade=3.0), "The fade is 3 s"),
    (short_loop, "loop is to be 0.5 s long"),
    (without_layers, "No layer is connected"),
    (take_past_the_end, "index from 0 to 1"),
    (take_of_nothing_connected, "no AUDIO to pick from"),
])
def test_mistakes_are_said_and_the_queue_goes_on(server, stereo, graph, message):
    result = server.run(graph())
    assert result.status == "error" and message in result.message
