"""ComfyUI and our models with a second device: nothing mixes with the CPU's, and no step waits for it."""

from types import SimpleNamespace

import pytest
import torch

from hunyuan_foley_core.conditions import encode_video
from hunyuan_foley_core.media import frames_from_images
from tests.comfy import pretend_gpu, test_workflows
from tests.core.parity import relative_error
from tests.pretend_device import NAME, pretend_device


@pytest.fixture
def free():
    """How many bytes ComfyUI finds free on the device."""
    return SimpleNamespace(bytes=pretend_gpu.EVERYTHING)


@pytest.fixture
def crossed(comfy, free, monkeypatch):
    """ComfyUI takes the pretended device for its GPU; counts what crosses between that and the CPU."""
    for name, value in pretend_gpu.management(free, comfy.model_management).items():
        monkeypatch.setattr(comfy.model_management, name, value)
    with pretend_device() as crossed:
        yield crossed
        comfy.model_management.unload_all_models()


def places(patcher):
    return {parameter.device.type for parameter in patcher.model.diffusion_model.parameters()}


# Of the memory that the weights need, as much is free; ComfyUI decides what it loads.
@pytest.mark.parametrize("with_lora", [False, True])
@pytest.mark.parametrize("share, found", [(None, {NAME}), (0.5, {NAME, "cpu"}), (0.0, {"cpu"})])
def test_the_sound_is_that_of_the_cpu(crossed, free, comfy, run, nodes, exact_path, lora, with_lora, share, found):
    def load():
        patcher = nodes.loading.load_foley_model(exact_path)
        return comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)[0] if with_lora else patcher

    with pytest.MonkeyPatch.context() as only_the_cpu:
        only_the_cpu.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("cpu"))
        wanted = run(load())
    patcher = load()
    assert patcher.load_device.type == NAME and patcher.offload_device.type == "cpu"
    if share is not None:
        free.bytes = comfy.model_management.minimum_inference_memory() + share * patcher.model_size()
    made = run(patcher)
    assert places(patcher) == found
    assert type(made) is torch.Tensor and relative_error(made, wanted) <= 1e-5


def crossings(crossed, work, *args, **kwargs):
    before = crossed.copy()
    work(*args, **kwargs)
    return crossed - before


@pytest.mark.parametrize("cfg", [4.5, 1.0])
def test_no_step_waits_for_the_device(crossed, run, nodes, exact_path, cfg):
    patcher = nodes.loading.load_foley_model(exact_path)
    run(patcher)
    few, many = (crossings(crossed, run, patcher, steps=steps, cfg=cfg) for steps in (3, 9))
    many["read"] -= 6  # by ComfyUI, which makes the schedule of single values
    assert few == many


def test_no_step_waits_where_sound_is_made_in_windows(crossed, run, nodes, exact_path, conditions, features):
    """And where prompts hold at some times only."""
    masked = {"mask": torch.ones(1, 600), "mask_strength": 1.0}
    early, late = ({**masked, "mask": masked["mask"] * (torch.arange(600) < 250)}, masked)
    (text, seen), *_ = conditions[0]
    lengths = {nodes.model.LENGTHS_KEY: (96, 288)}
    positive = [[text, {**lengths, **early}], [text.roll(1), {**lengths, **late}]]
    negative = [[features.negative, lengths]]
    patcher = nodes.context.with_windows(nodes.loading.load_foley_model(exact_path), nodes.context.WindowSettings())
    noise = torch.randn(1, 128, 600, generator=torch.Generator().manual_seed(2))

    def sample(steps):
        return run(patcher, positive, negative, noise, steps)

    sample(2)
    few, many = crossings(crossed, sample, 3), crossings(crossed, sample, 7)
    many["read"] -= 4
    assert few == many


def test_encoders_and_vae_give_what_they_give_on_the_cpu(crossed, nodes, base, comfy, monkeypatch):
    import small_weights

    def everything():
        files = [str(base / "models" / name) for name in (small_weights.SIGLIP2, small_weights.SYNCHFORMER, small_weights.CLAP)]
        encoders = nodes.encoders.load_foley_encoders(*files, str(base / "models" / small_weights.TOKENIZER))
        siglip2, synchformer, place = encoders.load_for_video()
        pictures = torch.rand(30, 48, 64, 3, generator=torch.Generator().manual_seed(4))
        seen = encode_video(frames_from_images(pictures, 24.0), siglip2.float(), synchformer.float(), device=place)
        clap, place = encoders.load_for_text()
        vae = nodes.vae.FoleyVAE(str(base / "models" / small_weights.VAE))
        sound = vae.decode(torch.randn(1, 128, 300, generator=torch.Generator().manual_seed(5)))
        return place, [seen.visual, seen.sync, clap.encode_text(["rain"], device=place), sound, vae.encode(sound)]

    place, made = everything()
    assert place.type == NAME
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("cpu"))
    place, wanted = everything()
    assert place.type == "cpu"
    for ours, theirs in zip(made, wanted, strict=True):
        assert type(ours) is torch.Tensor and relative_error(ours, theirs) <= 1e-5


def crossed_in(log: str) -> list[int]:
    """How many tensors went to the device in each run."""
    return [int(line.split()[-1]) for line in log.splitlines() if pretend_gpu.CROSSED in line]


@pytest.fixture(scope="module")
def gpu_server(comfyui, tmp_path_factory):
    """A server whose GPU is the pretended device, which computes in bfloat16 and float16."""
    from comfy_server import ComfyServer, install_pack

    base = tmp_path_factory.mktemp("gpu")
    install_pack(base)
    pretend_gpu.install(base)
    with ComfyServer(comfyui, base, threads=1) as server:
        yield server
    counts = crossed_in(server.log.read_text(encoding="utf-8"))
    assert counts and min(counts) > 5


@pytest.fixture(scope="module")
def servers(server, gpu_server):
    """Both, with the example's videos."""
    for one in (gpu_server, server):
        for example in test_workflows.EXAMPLES:
            one.add_input(test_workflows.WORKFLOWS / example)
    return gpu_server, server


# The released one loads weights that are not here.
@pytest.mark.parametrize("name", sorted(set(test_workflows.NAMES) - {test_workflows.RELEASED}))
def test_workflows_run_on_a_gpu(servers, name):
    graph = test_workflows.changed(name, steps=2)
    ours, theirs = (test_workflows.sound(test_workflows.made_by(one, graph))[0] for one in servers)
    # Another sound would differ by more than 1.
    assert ours.shape == theirs.shape and relative_error(ours, theirs) <= 0.4
    assert ours.std() > test_workflows.FAINT
