"""Training a LoRA on a real server: from a folder of clips to a sound that it changes, cancelled on the way or not."""

from pathlib import Path

import pytest
import small_weights
import torch
from comfy_server import PromptRejected
from safetensors import safe_open

from hunyuan_foley_core import media
from tests.videos import make_video, sine

TRANSFORMER, VAE, SYNCHFORMER, SIGLIP2, CLAP, TOKENIZER = (
    Path(getattr(small_weights, name)).name
    for name in ("TRANSFORMER", "VAE", "SYNCHFORMER", "SIGLIP2", "CLAP", "TOKENIZER")
)
ENCODERS = dict(siglip2_name=SIGLIP2, synchformer_name=SYNCHFORMER, clap_name=CLAP, tokenizer_name=TOKENIZER)


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def training(name: str, **changes) -> dict:
    """A graph of the training node alone."""
    inputs = dict(
        clips="clips", caption="a tone", output_name=name, model_name=TRANSFORMER, vae_name=VAE, **ENCODERS,
        storage="as in the file", preset="all", rank=4, alpha=4.0, steps=3, learning_rate=0.02, batch_size=2,
        visual_dropout=0.3, save_every=2, seed=0,
    )
    return {"train": node("FoleyTrainLoRA", **inputs | changes)}


def sound(prefix: str, **between) -> dict:
    """Text to sound, with the node `lora` between the model and the sampler if there is one."""
    graph = {
        "model": node("FoleyLoadModel", model_name=TRANSFORMER, weight_dtype="default"),
        "encoders": node("FoleyLoadEncoders", **ENCODERS),
        "vae": node("FoleyLoadVAE", vae_name=VAE),
        "text": node(
            "FoleyEncodeText", encoders=["encoders", 0], prompt="a tone", negative_prompt="", bandwidth_tag="none"
        ),
        "latent": node("FoleyEmptyLatent", seconds=0.5, batch_size=1),
        "sampler": node(
            "FoleySampler", model=["lora", 0] if between else ["model", 0], positive=["text", 0], negative=["text", 1],
            latent=["latent", 0], seed=1, steps=3, cfg=4.5, sampler_name="euler", scheduler="linear", denoise=1.0,
            bandwidth_tag="as encoded",
        ),
        "decode": node("FoleyDACDecode", samples=["sampler", 0], vae=["vae", 0]),
        "save": node("SaveAudio", audio=["decode", 0], filename_prefix=prefix),
    }
    return graph | between


@pytest.fixture(scope="module")
def clips(server) -> Path:
    """Eight short clips of tones, the last of them without sound, and one whose caption is not UTF-8."""
    folder = server.base / "input" / "clips"
    folder.mkdir()
    for number in range(7):
        make_video(folder / f"{number}.mp4", frames=20, rate=25, waveform=sine(0.8, frequency=300.0 * (number + 1)))
    (folder / "0.txt").write_text("a low tone")
    make_video(folder / "silent.mp4", frames=20, rate=25)
    make_video(folder / "ansi.mp4", frames=20, rate=25, waveform=sine(0.8))
    (folder / "ansi.txt").write_text("T\u00fcr", encoding="cp1252")
    return folder


@pytest.fixture(scope="module")
def tones(server, clips):
    """The result of a whole training, of the LoRA `tones`."""
    result = server.run(training("tones"))
    assert result.status == "success", result.message
    return result


def listen(server, graph: dict) -> torch.Tensor:
    result = server.run(graph)
    assert result.status == "success", result.message
    (path,) = result.files(server.base)
    return media.read_audio(path)[0]


def stock(name: str) -> dict:
    return node("LoraLoaderModelOnly", model=["model", 0], lora_name=name, strength_model=1.0)


def loras(server) -> dict[str, Path]:
    return {path.stem: path for path in (server.base / "models" / "loras").glob("*")}


def test_clips_become_a_lora_that_changes_the_sound(server, tones):
    told = " ".join(tones.outputs["train"]["text"])
    assert "Left out silent.mp4" in told and "Left out ansi.mp4" in told and "ansi.txt" in told
    made = loras(server)
    assert {"tones", "tones_step2"} <= made.keys() and not [path for path in made.values() if path.suffix == ".tmp"]
    with safe_open(made["tones"], "pt") as file:
        assert file.metadata()["rank"] == "4" and any(file.get_tensor(key).any() for key in file.keys() if "lora_B" in key)
    run = server.base / "output" / "foley_training" / "tones"
    assert (run / "previews" / "step-00000002" / "spectrograms.png").stat().st_size
    progress = [event["data"] for event in tones.events if event["type"] == "progress"]
    assert [(each["value"], each["max"]) for each in progress[-3:]] == [(1, 3), (2, 3), (3, 3)]

    plain, changed = listen(server, sound("plain")), listen(server, sound("changed", lora=stock("tones.safetensors")))
    assert changed.isfinite().all() and not torch.equal(changed, plain)
    # The node's own MODEL is the same as what the stock loader makes of its file; nothing is trained again.
    train = training("tones")["train"]
    train["inputs"]["model"] = ["model", 0]
    graph = sound("direct", train=train)
    graph["sampler"]["inputs"]["model"] = ["train", 1]
    torch.testing.assert_close(listen(server, graph), changed, atol=2 / 32768, rtol=0)


def test_a_cancelled_run_keeps_what_it_learned_and_goes_on(server, clips):
    prompt = server.queue(training("long", steps=100_000, save_every=50_000))
    server.wait_for(prompt, lambda e: e["type"] == "progress" and e["data"]["max"] == 100_000 and e["data"]["value"] > 1)
    server.interrupt()
    assert server.wait(prompt, timeout=300).status == "interrupted"
    (kept,) = (server.base / "output" / "foley_training" / "long").glob("step-*")
    done = int(kept.name[-8:])
    assert "long" in loras(server) and done >= 2
    result = server.run(training("long", steps=done + 1, save_every=50_000))
    assert result.status == "success", result.message
    progress = [event["data"]["value"] for event in result.events if event["type"] == "progress"]
    assert progress[-1] == done + 1 and done not in progress[-2:-1]


@pytest.fixture
def fewer(server, clips):
    """The clips without one of them."""
    (clips / "0.mp4").rename(server.base / "0.mp4")
    yield
    (server.base / "0.mp4").rename(clips / "0.mp4")


def test_a_finished_run_says_so_of_changes_and_takes_them_with_more_steps(server, clips):
    assert server.run(training("more", steps=1)).status == "success"
    result = server.run(training("more", steps=1, learning_rate=0.01))
    assert result.status == "error" and "optimiser.learning_rate from 0.02 to 0.01. Nothing" in result.message
    result = server.run(training("more", learning_rate=0.01))
    assert result.status == "success", result.message
    assert "Going on after 1 updates with changed settings" in result.outputs["train"]["text"][0]
    assert "optimiser.learning_rate from 0.02 to 0.01" in result.outputs["train"]["text"][0]


def test_clips_that_are_gone_are_forgotten(server, tones, fewer):
    result = server.run(training("tones"))
    assert result.status == "error" and "The run tones is finished after 3 updates" in result.message
    assert "clips from '8 clips" in result.message and not [event for event in result.events if event["type"] == "progress"]
    result = server.run(training("tones", steps=4))
    assert result.status == "success", result.message
    progress = [event["data"] for event in result.events if event["type"] == "progress"]
    assert {each["max"] for each in progress} == {7, 4}  # encoded anew
    assert "clips from '8 clips" in result.outputs["train"]["text"][0]


def test_a_run_that_was_begun_with_another_vae_is_not_stuck(server, clips):
    result = server.run(training("mistaken", vae_name="foley_tiny_vae.safetensors"))
    assert result.status == "error" and "latent_channels" in result.message
    result = server.run(training("mistaken"))
    assert result.status == "success", result.message
    result = server.run(training("mistaken", vae_name="foley_tiny_vae.safetensors", steps=4))
    assert result.status == "error" and "choose another name" in result.message  # what was learned rests on the first


def test_encoding_can_be_cancelled_too(server, clips):
    prompt = server.queue(training("never"))
    server.wait_for(prompt, lambda e: e["type"] == "progress" and e["data"]["max"] == 8)
    server.interrupt()
    assert server.wait(prompt, timeout=300).status == "interrupted"
    assert "never" not in loras(server)


@pytest.mark.parametrize("changes, message", [
    (dict(clips=" "), "No folder of clips was given"),
    (dict(clips=' " " '), "No folder of clips was given"),
    (dict(clips="no_such_folder"), "no folder or file"),
    (dict(clips=' "clips/0.mp4" '), "clips/0.mp4 is a single clip"),
    (dict(output_name="../escape"), "output name is '../escape'"),
    (dict(output_name="tones", rank=8), "lora.rank from 4 to 8"),
    (dict(output_name="another"), "another.safetensors that no run in"),
    (dict(output_name="stepped"), "stepped_step2.safetensors that no run in"),
    (dict(model_name=f"../vae/{VAE}"), "is not there"),
])
def test_bad_input_gets_one_paragraph(server, clips, tones, changes, message):
    for name in ("another", "stepped_step2"):
        (server.base / "models" / "loras" / f"{name}.safetensors").write_bytes(b"from elsewhere")
    try:
        result = server.run(training(changes.pop("output_name", "refused"), **changes))
    except PromptRejected as rejection:
        assert "value_not_in_list" in str(rejection)
        return
    assert result.status == "error" and result.error["node_type"] == "FoleyTrainLoRA"
    assert message in result.message and "\n" not in result.message
    assert loras(server)["stepped_step2"].read_bytes() == b"from elsewhere"
