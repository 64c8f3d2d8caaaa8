"""The nodes on a real server: what they offer, what they refuse, how they stop, and the stock nodes around them."""

import pickle
import shutil
from fractions import Fraction
from pathlib import Path

import pytest
import small_weights
import torch
from comfy_server import PromptRejected
from safetensors.torch import save_file

from hunyuan_foley_core import errors, media
from tests.videos import make_audio, make_video, packets, sine, turn

NAMES = {
    "FoleyDownloadModels": "Foley Download Models",
    "FoleyLoadModel": "Load Foley Model",
    "FoleyLoadEncoders": "Load Foley Encoders",
    "FoleyLoadVAE": "Load Foley VAE",
    "FoleyScenes": "Foley Scenes",
    "FoleyEncodeVideo": "Encode Video (SigLIP2 + Synchformer)",
    "FoleyEncodeText": "Encode Text (CLAP)",
    "FoleyTimedPrompts": "Foley Timed Prompts",
    "FoleyEmptyLatent": "Empty Foley Latent",
    "FoleyGuidanceInterval": "Guidance Interval (Foley)",
    "FoleyContextWindows": "Foley Context Windows",
    "FoleySampler": "Foley Sampler (MMDiT)",
    "FoleyLayer": "Foley Layer",
    "FoleyLayerMix": "Foley Layer Mix",
    "FoleyRetake": "Foley Retake",
    "FoleyExtend": "Foley Extend",
    "FoleySeamlessLoop": "Foley Seamless Loop",
    "FoleyRegionMask": "Foley Region Mask",
    "FoleyPickTake": "Foley Pick Take",
    "FoleyDACDecode": "DAC Decode",
    "FoleyDACEncode": "DAC Encode",
    "FoleyMuxAudio": "Mux Audio",
    "FoleyMixdown": "Foley Mixdown",
    "FoleyTimeline": "Foley Timeline",
    "FoleyTrainLoRA": "Foley Train LoRA",
}
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
TRANSFORMER, VAE, SYNCHFORMER, SIGLIP2, CLAP = (
    Path(getattr(small_weights, name)).name for name in ("TRANSFORMER", "VAE", "SYNCHFORMER", "SIGLIP2", "CLAP")
)
TOKENIZER = Path(small_weights.TOKENIZER).name


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def text_graph(**changes) -> dict:
    """Text to sound. `changes` are inputs as node__input=value."""
    graph = {
        "model": node("FoleyLoadModel", model_name=TRANSFORMER, weight_dtype="default"),
        "encoders": node(
            "FoleyLoadEncoders", siglip2_name=SIGLIP2, synchformer_name=SYNCHFORMER, clap_name=CLAP,
            tokenizer_name=TOKENIZER,
        ),
        "vae": node("FoleyLoadVAE", vae_name=VAE),
        "text": node(
            "FoleyEncodeText", encoders=["encoders", 0], prompt="steps", negative_prompt="noisy, harsh",
            bandwidth_tag="high-quality",
        ),
        "latent": node("FoleyEmptyLatent", seconds=0.5, batch_size=1),
        "sampler": node(
            "FoleySampler", model=["model", 0], positive=["text", 0], negative=["text", 1], latent=["latent", 0], seed=1,
            steps=3, cfg=4.5, sampler_name="euler", scheduler="linear", denoise=1.0, bandwidth_tag="as encoded",
        ),
        "decode": node("FoleyDACDecode", samples=["sampler", 0], vae=["vae", 0]),
        "save": node("SaveAudio", audio=["decode", 0], filename_prefix="sound"),
    }
    return change(graph, changes)


def video_graph(video: str, **changes) -> dict:
    """Video to video with sound, of its first half second."""
    graph = text_graph()
    graph["load"] = node("LoadVideo", file=video)
    graph["video"] = node(
        "FoleyEncodeVideo", encoders=["encoders", 0], video=["load", 0], frame_rate=24.0, max_seconds=0.5
    )
    graph["text"]["inputs"]["video"] = graph["latent"]["inputs"]["video"] = ["video", 0]
    graph["mux"] = node(
        "FoleyMuxAudio", video=["load", 0], audio=["decode", 0], mode="replace", gain_db=0.0, original_gain_db=0.0,
        offset=0.0,
    )
    graph["save"] = node("SaveVideo", video=["mux", 0], filename_prefix="film", format="auto", codec="auto")
    return change(graph, changes)


def change(graph: dict, changes: dict) -> dict:
    for place, value in changes.items():
        name, key = place.split("__")
        graph[name]["inputs"][key] = value
    return graph


def between(graph: dict, class_type: str, **inputs) -> dict:
    """A stock node between the model and the sampler."""
    graph["patch"] = node(class_type, model=["model", 0], **inputs)
    graph["sampler"]["inputs"]["model"] = ["patch", 0]
    return graph


@pytest.fixture(scope="module")
def inputs(server) -> Path:
    """The server's input folder with a clip with sound, one without, one of sound alone, and a text file."""
    folder = server.base / "input"
    make_video(folder / "clip.mp4", frames=30, rate=25, waveform=sine(1.2))
    make_video(folder / "silent.webm", codec="libvpx-vp9", frames=30, rate=25)
    make_audio(folder / "sound.mp4", sine(1.0), codec="aac")
    (folder / "text.mp4").write_text("not a video" * 100)
    return folder


@pytest.fixture(scope="module")
def make(server):
    """Runs a graph to its end and returns the one file it saves."""

    def made(graph: dict) -> Path:
        result = server.run(graph)
        assert result.status == "success", result.message
        (path,) = result.files(server.base)
        return path

    return made


@pytest.fixture(scope="module")
def listen(make):
    """The waveform [channels, N] that a graph saves."""
    return lambda graph: media.read_audio(make(graph))[0]


@pytest.fixture(scope="module")
def plain(listen):
    return listen(text_graph())


def test_every_node_is_there_and_every_widget_explains_itself(server):
    found = {name: info for name, info in server.object_info().items() if name.startswith("Foley")}
    assert {name: info["display_name"] for name, info in found.items()} == NAMES
    for name, info in found.items():
        assert info["category"] == "Foley" and info["description"], name
        sections = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        for key, (kind, *options) in sections.items():
            if kind in WIDGETS:
                assert len(options[0].get("tooltip", "")) > 20, f"{name}.{key}"


def test_the_sound_has_its_exact_length_and_comes_again_after_others(server, listen, plain):
    assert plain.shape == (1, 24_000)
    other = listen(text_graph(text__prompt="a dog", sampler__seed=2))
    assert not torch.equal(other, plain)
    server.free()
    again = listen(text_graph(save__filename_prefix="again"))
    assert torch.equal(again, plain)


def test_the_bandwidth_tag_changes_without_encoding_again(server, plain):
    server.run(text_graph())
    result = server.run(text_graph(sampler__bandwidth_tag="none"))
    assert result.status == "success"
    executed = {e["data"]["node"] for e in result.events if e["type"] == "executing"}
    assert executed - {None} == {"sampler", "decode", "save"}
    (path,) = result.files(server.base)
    assert not torch.equal(media.read_audio(path)[0], plain)


def test_the_encoded_tag_and_the_chosen_one_are_the_same(listen, plain):
    untagged = listen(text_graph(text__bandwidth_tag="none"))
    assert torch.equal(listen(text_graph(text__bandwidth_tag="none", sampler__bandwidth_tag="high-quality")), plain)
    assert torch.equal(listen(text_graph(sampler__bandwidth_tag="none")), untagged)


def test_a_batch_gives_several_sounds(server):
    result = server.run(text_graph(latent__batch_size=2))
    sounds = [media.read_audio(path)[0] for path in result.files(server.base)]
    assert len(sounds) == 2 and not torch.equal(*sounds)


# Stock nodes.


def sampled_by_ksampler(graph: dict) -> dict:
    inputs = dict(graph["sampler"]["inputs"], latent_image=["latent", 0], scheduler="simple")
    for key in ("latent", "bandwidth_tag"):
        inputs.pop(key)
    graph["sampler"] = node("KSampler", **inputs)
    return graph


def sampled_by_parts(graph: dict) -> dict:
    graph["noise"] = node("RandomNoise", noise_seed=1)
    graph["guider"] = node("CFGGuider", model=["model", 0], positive=["text", 0], negative=["text", 1], cfg=4.5)
    graph["solver"] = node("KSamplerSelect", sampler_name="euler")
    graph["sigmas"] = node("BasicScheduler", model=["model", 0], scheduler="simple", steps=4, denoise=1.0)
    graph["sampler"] = node(
        "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["solver", 0], sigmas=["sigmas", 0],
        latent_image=["latent", 0],
    )
    return graph


def test_stock_samplers_give_the_same_sound(listen):
    # `simple` is linear where the steps divide 1000. SaveAudio keeps 16 bits.
    ours = listen(text_graph(sampler__steps=4))
    for graph in (sampled_by_ksampler(text_graph(sampler__steps=4)), sampled_by_parts(text_graph())):
        torch.testing.assert_close(listen(graph), ours, atol=2 / 32768, rtol=0)


def test_shift_nodes_reach_the_linear_schedule(listen, plain):
    shifted = listen(between(text_graph(), "ModelSamplingSD3", shift=3.0))
    assert not torch.equal(shifted, plain)
    flux = between(text_graph(), "ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=1024, height=1024)
    assert not torch.equal(listen(flux), plain)


def test_lora_applies_and_leaves_the_model(server, listen, plain):
    generator = torch.Generator().manual_seed(0)
    prefix = "diffusion_model.single_blocks.0.linear_qkv"
    lora = {f"{prefix}.lora_A.weight": torch.randn(4, 128, generator=generator)}
    lora[f"{prefix}.lora_B.weight"] = 0.2 * torch.randn(384, 4, generator=generator)
    (server.base / "models" / "loras").mkdir(exist_ok=True)
    save_file(lora, server.base / "models" / "loras" / "test.safetensors")
    graph = between(text_graph(), "LoraLoaderModelOnly", lora_name="test.safetensors", strength_model=1.0)
    assert not torch.equal(listen(graph), plain)
    assert torch.equal(listen(text_graph(save__filename_prefix="after_lora")), plain)


def test_easycache_skips_steps(server, make, plain):
    options = dict(reuse_threshold=3.0, start_percent=0.1, end_percent=0.95, verbose=True)
    make(between(text_graph(sampler__steps=12), "EasyCache", **options))
    assert "skipping step" in server.log_tail(200)


def test_a_compiled_model_gives_the_same_sound(require, server, listen):
    require(shutil.which("g++"), "a C++ compiler, which torch.compile needs on a CPU")
    name = other_model(server, "two_blocks.pth", num_multimodal_blocks=1, num_unimodal_blocks=1)
    plain = listen(text_graph(model__model_name=name))
    compiled = listen(between(text_graph(model__model_name=name), "TorchCompileModel", backend="inductor"))
    assert not torch.equal(compiled, plain)  # it did compile: the order of additions is another
    assert float((compiled - plain).norm() / plain.norm()) < 1e-3


def test_a_saved_model_loads_again(server, listen, plain):
    graph = {"model": text_graph()["model"], "save": node("ModelSave", model=["model", 0], filename_prefix="copy")}
    assert server.run(graph).status == "success"
    (saved,) = (server.base / "output").glob("copy*.safetensors")
    (server.base / "models" / "foley").mkdir(exist_ok=True)
    saved.replace(server.base / "models" / "foley" / "copy.safetensors")
    assert torch.equal(listen(text_graph(model__model_name="copy.safetensors")), plain)


def test_stock_vae_nodes_take_our_vae(server, listen):
    graph = text_graph()
    graph["decode"] = node("VAEDecodeAudio", samples=["sampler", 0], vae=["vae", 0])
    assert listen(graph).shape == (1, 24_000)


def test_encoded_sound_is_varied(listen):
    graph = text_graph(sampler__denoise=0.5)
    graph["silence"] = node("EmptyAudio", duration=0.5, sample_rate=44_100, channels=2)
    graph["latent"] = node("FoleyDACEncode", audio=["silence", 0], vae=["vae", 0])
    assert listen(graph).shape == (1, 24_000)


# Video.


def test_pictures_of_a_generator_with_their_rate(server, inputs):
    graph = video_graph("clip.mp4")
    graph["parts"] = node("GetVideoComponents", video=["load", 0])
    graph["video"]["inputs"].pop("video")
    change(graph, dict(video__images=["parts", 0], video__frame_rate=25.0))
    graph["whole"] = node("CreateVideo", images=["parts", 0], fps=25.0, audio=["parts", 1])
    change(graph, dict(mux__video=["whole", 0], mux__mode="mix", mux__offset=0.1))
    result = server.run(graph)
    assert result.status == "success", result.message
    (path,) = result.files(server.base)
    info, (waveform, rate) = media.probe(path), media.read_audio(path)
    assert info.frames == 30
    first, middle = (waveform[:, int(a * rate):int(b * rate)] for a, b in ((0.02, 0.09), (0.65, 1.1)))
    # A quiet lead of the original alone, then both, then the original alone again.
    assert 0.2 < float(first.std()) < 0.45 and 0.2 < float(middle.std()) < 0.45


CLIPS = {
    "clip.mp4": lambda path: path,
    "silent.webm": lambda path: path,
    "ntsc.mp4": lambda path: make_video(path, frames=30, rate=Fraction(30000, 1001), waveform=sine(1.0)),
    "variable.mp4": lambda path: make_video(path, times_ms=[0, 20, 100, 133, 283, 400, 600, 780, 900, 960]),
    "turned.mp4": lambda path: turn(make_video(path, frames=30, rate=30), 90),
    "full_hd.mp4": lambda path: make_video(path, frames=30, rate=30, size=(1920, 1080)),
}


@pytest.mark.parametrize("clip", CLIPS)
def test_the_picture_of_a_file_is_copied_and_the_sound_is_as_long(make, inputs, clip):
    CLIPS[clip](inputs / clip)
    path = make(video_graph(clip))
    assert [p for p, _ in packets(path)] == [p for p, _ in packets(inputs / clip)]
    before, after = media.probe(inputs / clip), media.probe(path)
    assert (after.width, after.height, after.rotation) == (before.width, before.height, before.rotation)
    waveform, rate = media.read_audio(path)
    # An AAC file decodes up to one codec frame longer than it says.
    assert rate == 48_000 and -0.002 < waveform.shape[1] / rate - before.duration < 0.03
    assert float(waveform[:, : rate // 4].std()) > 0.01


def test_what_a_damaged_video_lacks_is_told(server, inputs):
    data = bytearray((inputs / "clip.mp4").read_bytes())
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 4
    data[middle:middle + 400] = bytes(400)
    (inputs / "damaged.mp4").write_bytes(bytes(data))
    result = server.run(video_graph("damaged.mp4", video__max_seconds=15.0))
    assert result.status == "success", result.message
    assert "damaged.mp4 is damaged" in " ".join(result.outputs["video"]["text"])


def test_a_clip_of_three_pictures_keeps_its_length(server, inputs):
    make_video(inputs / "short.mp4", frames=3, rate=25)
    graph = video_graph("short.mp4")
    graph["save"] = node("SaveAudio", audio=["decode", 0], filename_prefix="short")
    result = server.run(graph)
    assert result.status == "success", result.message
    (path,) = result.files(server.base)
    assert media.read_audio(path)[0].shape == (1, 3 * 48_000 // 25)


# What is refused.


def other_model(server, name: str, **sizes) -> str:
    """A transformer of other sizes in models/foley."""
    import dataclasses

    from hunyuan_foley_core.config import TransformerConfig
    from hunyuan_foley_core.model import FoleyTransformer

    state = torch.load(server.base / "models" / small_weights.TRANSFORMER)
    config = dataclasses.replace(TransformerConfig.from_state_dict(state), **sizes)
    generator = torch.Generator().manual_seed(0)
    folder = server.base / "models" / "foley"
    folder.mkdir(exist_ok=True)
    torch.save(small_weights.random_state(FoleyTransformer(config, device="meta"), generator), folder / name)
    return name


def not_a_number(server) -> str:
    state = torch.load(server.base / "models" / small_weights.TRANSFORMER)
    state["final_layer.linear.bias"][:] = torch.nan
    torch.save(state, server.base / "models" / "foley" / "nan.pth")
    return "nan.pth"


class RunsCode:
    def __reduce__(self):
        return (open, ("/nonexistent/written_by_a_checkpoint", "w"))


def written(server, name: str, content: bytes) -> str:
    folder = server.base / "models" / "foley"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return name


def image_checkpoint(server) -> str:
    folder = server.base / "models" / "foley"
    folder.mkdir(exist_ok=True)
    save_file({"decoder.conv_in.weight": torch.zeros(2)}, folder / "image_vae.safetensors")
    return "image_vae.safetensors"


def image_latent(graph: dict) -> dict:
    graph["latent"] = node("EmptyLatentImage", width=64, height=64, batch_size=1)
    return graph


def image_vae(graph: dict) -> dict:
    graph["vae"] = node("VAELoader", vae_name="pixel_space")
    return graph


def without_source(graph: dict) -> dict:
    graph["video"]["inputs"].pop("video")
    return graph


def zero_rate(graph: dict) -> dict:
    graph["pictures"] = node("EmptyImage", width=32, height=32, batch_size=4, color=0)
    without_source(graph)
    return change(graph, dict(video__images=["pictures", 0], video__frame_rate=0.0))


REFUSED = {
    "VAE as model": (lambda s: text_graph(model__model_name=f"../vae/{VAE}"), "FoleyLoadModel", "is not there"),
    "Synchformer as model": (
        lambda s: text_graph(model__model_name=SYNCHFORMER), "FoleyLoadModel", "holds the Synchformer visual tower"
    ),
    "model as VAE": (lambda s: text_graph(vae__vae_name=SYNCHFORMER), "FoleyLoadVAE", "Expected the DAC-VAE"),
    "SigLIP2 as CLAP": (lambda s: text_graph(encoders__clap_name=SIGLIP2), "FoleyLoadEncoders", "the CLAP text encoder"),
    "encoders of another width": (
        lambda s: text_graph(model__model_name=other_model(s, "narrow.pth", text_dim=96)), "FoleySampler",
        f"made with `{CLAP}`, are 128 wide. The loaded Foley model reads text features 96 wide",
    ),
    "latents of another VAE": (
        lambda s: text_graph(model__model_name=other_model(s, "few.pth", latent_channels=64)), "FoleyDACDecode",
        "Expected floating-point latents of shape",
    ),
    "image latent": (lambda s: image_latent(text_graph()), "FoleySampler", "audio latents"),
    "image VAE": (lambda s: image_vae(text_graph()), "FoleyDACDecode", "Expected the DAC-VAE of HunyuanVideo-Foley"),
    "NaN": (lambda s: text_graph(model__model_name=not_a_number(s)), "FoleySampler", "not finite"),
    "NaN of KSampler": (
        lambda s: sampled_by_ksampler(text_graph(model__model_name=not_a_number(s))), "FoleyDACDecode", "NaN"
    ),
    "truncated file": (
        lambda s: text_graph(model__model_name=written(s, "cut.safetensors", b"\xff\x0f\0\0\0\0\0\0{")), "FoleyLoadModel",
        "not downloaded to the end",
    ),
    "file with code": (
        lambda s: text_graph(model__model_name=written(s, "code.pth", pickle.dumps({"state_dict": RunsCode()}))),
        "FoleyLoadModel", "run code that it contains",
    ),
    "image checkpoint": (
        lambda s: text_graph(vae__vae_name=image_checkpoint(s)), "FoleyLoadVAE", "an image VAE. Expected the DAC-VAE"
    ),
    "no tokenizer": (
        lambda s: text_graph(encoders__tokenizer_name=written(s, "tokenizer_other.json", b'{"a": 1}')),
        "FoleyLoadEncoders", "tokenizer",
    ),
    "long prompt": (lambda s: text_graph(text__prompt="word " * 600), "FoleyEncodeText", "at most 512 tokens"),
    "no video": (lambda s: without_source(video_graph("clip.mp4")), "FoleyEncodeVideo", "Neither VIDEO nor IMAGE"),
    "no pictures": (lambda s: video_graph("sound.mp4"), "FoleyEncodeVideo", "holds no moving picture"),
    "no media": (lambda s: video_graph("text.mp4"), "FoleyEncodeVideo", "cannot be opened"),
    "zero frame rate": (lambda s: zero_rate(video_graph("clip.mp4")), "FoleyEncodeVideo", "must be a positive number"),
    "nothing to mix": (lambda s: video_graph("silent.webm", mux__mode="mix"), "FoleyMuxAudio", "no sound track"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_gets_one_paragraph_on_its_node(server, inputs, case):
    graph_for, place, message = REFUSED[case]
    before = set((server.base / "temp").glob("foley_*"))
    try:
        result = server.run(graph_for(server))
    except PromptRejected as rejection:  # newer versions refuse unknown names before anything runs
        assert "value_not_in_list" in str(rejection)
        return
    assert result.status == "error"
    assert result.error["node_type"] == place
    assert message in result.message and "\n" not in result.message
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.FoleyError)]
    (kind,) = [kind for kind in kinds if result.message.startswith(f"{kind.title()}. ")]
    assert result.message.endswith(f"[{kind.link()}]")
    assert set((server.base / "temp").glob("foley_*")) == before
    assert server.run(text_graph(save__filename_prefix=f"after_{len(case)}")).status == "success"


# Stopping.


def long_sound(graph: dict) -> dict:
    """Decoding that takes longer than a test would wait."""
    change(graph, dict(latent__seconds=600.0, latent__batch_size=16))
    graph["decode"]["inputs"]["samples"] = ["latent", 0]
    return graph


def long_encoding(graph: dict) -> dict:
    graph["silence"] = node("EmptyAudio", duration=590.0, sample_rate=48_000, channels=2)
    graph["encode"] = node("FoleyDACEncode", audio=["silence", 0], vae=["vae", 0])
    graph["decode"]["inputs"]["samples"] = ["encode", 0]
    return graph


CANCELLED = {
    "video": lambda: video_graph("long.mp4", video__max_seconds=600.0),
    "sampler": lambda: text_graph(sampler__steps=1000, latent__seconds=20.0),
    "decode": lambda: long_sound(text_graph()),
    "encode": lambda: long_encoding(text_graph()),
}


@pytest.mark.parametrize("stage", CANCELLED)
def test_a_run_stops_at_every_stage(server, inputs, stage):
    if not (inputs / "long.mp4").exists():
        make_video(inputs / "long.mp4", frames=15_000, rate=25, size=(32, 32))
    before = set((server.base / "temp").glob("foley_*"))
    prompt = server.queue(CANCELLED[stage]())
    server.wait_for(prompt, lambda e: e["type"] == "progress" and e["data"]["node"] == stage)
    server.interrupt()
    result = server.wait(prompt, timeout=60)
    assert result.status == "interrupted"
    assert set((server.base / "temp").glob("foley_*")) == before
    assert server.run(text_graph(save__filename_prefix=f"after_{stage}")).status == "success"
