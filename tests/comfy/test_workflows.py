"""The shipped workflows: offered as templates, the same in both formats, and run as they are, with the shipped weights."""

import json
from itertools import islice
from pathlib import Path

import pytest
import small_weights
import torch
from PIL import Image

from hunyuan_foley_core import media, small_model
from hunyuan_foley_core.data import make_clip, write_clip
from hunyuan_foley_core.download.released import MODELS
from tests.videos import packets

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
# and the seconds of sound that each makes as it comes
LENGTHS = {
    "video_to_foley": 4, "foley_fast": 4, "text_to_foley": 8, "foley_after_generator": 4, "foley_stock_ksampler": 4,
    "foley_long": 24, "foley_scenes": 24, "foley_timed_prompts": 8, "foley_layers": 4, "foley_retake": 4,
    "foley_seamless_loop": 4, "foley_takes": 4, "foley_mixdown": 4, "foley_released_weights": 4, "foley_extend": 7,
    "foley_vary": 4, "foley_region_ksampler": 4,
}
NAMES = list(LENGTHS)
RELEASED = "foley_released_weights"
NOTES = {"MarkdownNote"}
CONTROLS = {"fixed", "randomize", "increment", "decrement"}
EXAMPLES = ("foley_example.mp4", "foley_scenes_example.mp4")
CLIP = "clip.mp4"
CLIP_SEED, CLIP_SECONDS = 960_001, 1.2
FAINT = 1e-3  # a level above the noise of the room in the clips that the small model learned from
SAMPLE_RATE = 48_000


def read(path: str) -> dict:
    return json.loads((WORKFLOWS / path).read_text(encoding="utf-8"))


def changed(name: str, **inputs) -> dict:
    """A workflow in API format with inputs of those names replaced on every node."""
    graph = read(f"api/{name}.json")
    for node in graph.values():
        node["inputs"].update({key: value for key, value in inputs.items() if key in node["inputs"]})
    return graph


def to_api(workflow: dict, schemas: dict) -> dict:
    """Converts the format with layout to the bare one, as ComfyUI's page does; fails where something is left over."""
    links = {link[0]: link for link in workflow["links"]}
    return {
        str(node["id"]): {
            "class_type": node["type"],
            "inputs": {**widgets(node, schemas[node["type"]]["input"]), **connections(node, links)},
        }
        for node in workflow["nodes"] if node["type"] not in NOTES
    }


def widgets(node: dict, sections: dict) -> dict:
    """Widget names and values; inputs that a newer ComfyUI has added behind them are left to its defaults."""
    values, found = iter(node["widgets_values"]), {}
    for name, spec in {**sections.get("required", {}), **sections.get("optional", {})}.items():
        kind, options = spec[0], spec[1] if len(spec) > 1 else {}
        if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
            found.update((name, value) for value in islice(values, 1))
        if options.get("control_after_generate"):
            assert next(values) in CONTROLS
    assert list(values) == [], f"{node['type']} has values for widgets that do not exist"
    return found


def connections(node: dict, links: dict) -> dict:
    found = {}
    for index, socket in enumerate(node["inputs"]):
        if socket["link"] is not None:
            _, source, output, target, target_input, _ = links[socket["link"]]
            assert (target, target_input) == (node["id"], index)
            found[socket["name"]] = [str(source), output]
    return found


def sound(path: Path) -> tuple[torch.Tensor, int]:
    """The waveform [channels, N] of a file and its sample rate."""
    return media.read_audio(str(path))


def made_by(server, graph: dict) -> Path:
    """The one file that the graph saves, previews aside."""
    result = server.run(graph)
    assert result.status == "success", result.message
    (path,) = (path for path in result.files(server.base) if path.is_relative_to(server.base / "output"))
    return path


@pytest.fixture(scope="module")
def clip(server) -> Path:
    """A short h264 video in which something hits, with sound of its own, in the server's inputs."""
    path = server.base / "input" / CLIP
    write_clip(make_clip(CLIP_SEED, CLIP_SECONDS), path)
    return path


@pytest.fixture(scope="module")
def video_result(server, clip) -> Path:
    return made_by(server, changed("video_to_foley", file=CLIP, steps=4))


def test_comfyui_offers_them_as_templates(server):
    (pack,) = (server.base / "custom_nodes").iterdir()
    assert sorted(server.get("/workflow_templates")[pack.name]) == sorted(NAMES)
    for name in NAMES:
        assert server.get(f"/api/workflow_templates/{pack.name}/{name}.json") == read(f"{name}.json")


@pytest.mark.parametrize("name", NAMES)
def test_the_thumbnail_is_small_and_wide(name):
    path = WORKFLOWS / f"{name}.jpg"
    with Image.open(path) as picture:
        assert picture.format == "JPEG" and picture.width * 9 == picture.height * 16 and picture.width >= 1280
    assert path.stat().st_size < 150_000


@pytest.mark.parametrize("name", NAMES)
def test_both_formats_agree(server, name):
    graph = read(f"api/{name}.json")
    assert all(node.pop("_meta")["title"] for node in graph.values())
    assert to_api(read(f"{name}.json"), server.object_info()) == graph


def notes(name: str) -> str:
    return "\n".join(node["widgets_values"][0] for node in read(f"{name}.json")["nodes"] if node["type"] in NOTES)


def chosen_files(name: str) -> set[str]:
    return {
        value for node in read(f"api/{name}.json").values() if node["class_type"].startswith("FoleyLoad")
        for value in node["inputs"].values() if str(value).endswith((".safetensors", ".pth"))
    }


@pytest.mark.parametrize("name", [name for name in NAMES if name != RELEASED])
def test_they_begin_with_the_small_model_and_say_what_it_is(name):
    assert chosen_files(name) == set(small_model.WEIGHTS)
    words = [
        small_model.TRANSFORMER, "small model that comes with this pack", "simple synthetic scenes", "not for real footage",
    ]
    assert [word for word in words if word not in notes(name)] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_notes_tell_which_released_file_goes_where(name):
    released = [path.partition("/")[2] for path in small_weights.FILES]
    folders = ["diffusion_models", "vae", "foley", "clip_vision", "text_encoders"]
    places = ["tencent/HunyuanVideo-Foley", "google/siglip2-base-patch16-512", "laion/larger_clap_general"]
    others = ["GB", "choose them in the three loaders", "European Union", "United Kingdom", "South Korea"]
    assert [word for word in released + folders + places + others if word not in notes(name)] == []


def links_to_models(name: str) -> list[dict]:
    return [link for node in read(f"{name}.json")["nodes"] for link in node["properties"].get("models", [])]


@pytest.mark.parametrize("name", NAMES)
def test_the_loaders_link_to_the_released_files(name):
    """ComfyUI names those that a widget chooses and that are not there; all must be what this pack downloads."""
    links = {f"{link['directory']}/{link['name']}": link["url"] for link in links_to_models(name)}
    known = {
        f"{file.folder}/{file.saved_as}{Path(file.names[0]).suffix}":
            f"https://huggingface.co/{file.repository}/resolve/main/{file.names[0]}"
        for model in ("xxl", "xl") for file in MODELS[model] if file.what != "tokenizer"  # no list of models has it
    }
    assert links == known


def test_one_workflow_chooses_the_released_files_all_of_them_linked():
    assert chosen_files(RELEASED) == {path.partition("/")[2] for path in small_weights.FILES} - {"tokenizer.json"}
    assert chosen_files(RELEASED) < {link["name"] for link in links_to_models(RELEASED)}


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_is(name):
    workflow = read(f"{name}.json")
    about = workflow["extra"]
    first = min((node for node in workflow["nodes"] if node["type"] in NOTES), key=lambda node: node["pos"][1])
    assert about["title"] == first["title"] and about["description"].endswith(".") and "foley" in about["tags"]


def test_no_two_say_the_same():
    for key in ("title", "description"):
        assert len({read(f"{name}.json")["extra"][key] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_as_it_comes_on_the_video_that_it_names(server, name):
    """Nothing is changed but the number of steps; the videos lie beside the workflows."""
    for example in EXAMPLES:
        server.add_input(WORKFLOWS / example)
    path = made_by(server, changed(name, steps=2))
    waveform, _ = sound(path)
    assert waveform.shape[1] / SAMPLE_RATE == pytest.approx(LENGTHS[name], abs=0.05)
    assert waveform.isfinite().all() and waveform.std() > FAINT


def test_video_to_foley_keeps_the_picture_and_replaces_the_sound(server, clip, video_result):
    assert packets(video_result) == packets(clip)
    waveform, rate = sound(video_result)
    assert rate == SAMPLE_RATE
    # AAC works in frames of 1024 samples.
    assert abs(waveform.shape[1] - CLIP_SECONDS * rate) <= 1024
    assert waveform.std() > FAINT
    assert packets(video_result, "audio") != packets(clip, "audio")


def test_video_to_foley_on_a_real_film(server, films):
    film = films / "bigbuckbunny.mp4"
    made = made_by(server, changed("video_to_foley", file=server.add_input(film), steps=2))
    assert packets(made) == packets(film)
    waveform, rate = sound(made)
    assert rate == SAMPLE_RATE
    assert abs(waveform.shape[1] / rate - media.probe(str(film)).duration) < 0.1
    assert waveform.isfinite().all() and waveform.std() > 0  # the small model knows nothing of films


def test_the_same_sound_again_after_another_prompt(server, clip, video_result):
    made_by(server, changed("text_to_foley", seconds=1.0, steps=1, seed=3))
    server.free()
    again = server.run(changed("video_to_foley", file=CLIP, steps=4))
    assert not any(event["data"]["nodes"] for event in again.events if event["type"] == "execution_cached")
    (path,) = again.files(server.base)
    assert path != video_result
    assert packets(path, "audio") == packets(video_result, "audio")


def test_another_seed_gives_another_sound(server, clip, video_result):
    other = sound(made_by(server, changed("video_to_foley", file=CLIP, steps=4, seed=1)))[0]
    assert (other - sound(video_result)[0]).std() > 0.05 * other.std()


def test_text_to_foley_gives_exactly_its_seconds(server):
    path = made_by(server, changed("text_to_foley", seconds=1.5, steps=3))
    waveform, rate = sound(path)
    assert path.suffix == ".flac" and rate == SAMPLE_RATE
    assert waveform.shape == (1, 1.5 * SAMPLE_RATE)
    assert waveform.std() > FAINT


def test_foley_after_generator_has_the_pictures_and_the_sound(server, clip):
    path = made_by(server, changed("foley_after_generator", file=CLIP, steps=3))
    assert len(packets(path)) == len(packets(clip))
    waveform, rate = sound(path)
    assert rate == SAMPLE_RATE
    # ComfyUI's own encoding loses up to one frame of AAC more than ours.
    assert abs(waveform.shape[1] - CLIP_SECONDS * rate) <= 2 * 1024
    assert waveform.std() > FAINT


def test_stock_ksampler_gives_the_sound_of_our_sampler(server, clip, video_result):
    path = made_by(server, changed("foley_stock_ksampler", file=CLIP, steps=4))
    assert packets(path) == packets(clip)
    ours, stock = sound(video_result)[0], sound(path)[0]
    assert (ours - stock).norm() < 1e-3 * ours.norm()
