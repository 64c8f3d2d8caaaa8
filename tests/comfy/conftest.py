"""ComfyUI with this pack, its weights, and small random ones under released names: a real server, one for the whole run,
and its modules and ours inside this process.
"""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]
FRAMES, TEXT_TOKENS, WIDTH = 100, 12, 128
COUNTS = {"visual": 16, "sync": 40}


@pytest.fixture(scope="session")
def comfyui(require) -> Path:
    """The ComfyUI that `scripts/run.py test` built or was given; tests run in its Python."""
    folder = os.environ.get("FOLEY_COMFYUI", "")
    require(folder, "a ComfyUI: run the tests with `python scripts/run.py test`")
    return Path(folder)


@pytest.fixture(scope="session")
def films(require) -> Path:
    """Folder with bigbuckbunny.mp4 (h264 with sound), bikes.mp4 and carphone_pristine.mp4 (h264 without)."""
    folder = os.environ.get("FOLEY_FILMS", "")
    require(folder, "the test films: run the tests with `python scripts/run.py test`")
    return Path(folder)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A base directory of ComfyUI: the pack in custom_nodes with its weights, small random ones in models."""
    import comfy_server
    import small_weights

    base = tmp_path_factory.mktemp("comfyui")
    comfy_server.install_pack(base)
    small_weights.write(base / "models")
    return base


@pytest.fixture(scope="session")
def hub(base):
    """A hub on this machine, in place of Hugging Face's: it has the files that the server has, and the XL model."""
    import random

    import small_weights

    from tests.hub_server import HubServer

    repositories = {
        "tencent/HunyuanVideo-Foley": [small_weights.TRANSFORMER, small_weights.VAE, small_weights.SYNCHFORMER],
        "google/siglip2-base-patch16-512": [small_weights.SIGLIP2],
        "laion/larger_clap_general": [small_weights.CLAP, small_weights.TOKENIZER],
    }
    names = {small_weights.SIGLIP2: "model.safetensors", small_weights.CLAP: "model.safetensors"}
    content = {
        repository: {names.get(file, Path(file).name): (base / "models" / file).read_bytes() for file in files}
        for repository, files in repositories.items()
    }
    content["tencent/HunyuanVideo-Foley"]["hunyuanvideo_foley_xl.pth"] = random.Random(0).randbytes(3_000_000)
    with HubServer(content) as hub:
        yield hub


@pytest.fixture(scope="session")
def server(comfyui, base, hub):
    """A running ComfyServer on the CPU, shared by all tests: leave its queue empty."""
    from comfy_server import ComfyServer

    # torch.compile's shared cache may hold what a run with other headers or another compiler left there.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", str(base / "inductor"))
        environment.setenv("HF_ENDPOINT", hub.endpoint)
        environment.setenv("no_proxy", "*")  # it is on this machine
        environment.setenv("HF_HOME", str(base / "huggingface"))
        with ComfyServer(comfyui, base) as server:
            yield server


@pytest.fixture(scope="module")
def browser(require):
    """A headless Chromium; tests open tabs of their own. Of a module, since its event loop runs in this thread."""
    require(importlib.util.find_spec("playwright"), "the Python package playwright")
    import comfy_page

    require(comfy_page.chromium(), "Chromium (on Debian: apt-get install chromium)")
    with comfy_page.browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Where pictures of the page are kept: $FOLEY_ARTIFACTS, or output/browser, which git ignores."""
    folder = Path(os.environ.get("FOLEY_ARTIFACTS") or ROOT / "output" / "browser")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def comfy(comfyui, base):
    """ComfyUI's own modules, on the CPU, with the shared base directory. `pack` is ours, loaded by path as ComfyUI does."""
    import comfy_inside

    with comfy_inside.imported(comfyui, base) as comfy:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # networks this small only lose by more
        yield comfy
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def nodes(comfy):
    """Modules of the pack by name."""
    def load(name):
        return importlib.import_module(f"foley_pack.{name}")

    return SimpleNamespace(
        model=load("nodes.comfy_model"), loading=load("nodes.load_model"), cache=load("nodes.prepared_cache"),
        memory=load("nodes.memory_needed"), guidance=load("nodes.guidance"), sampler=load("nodes.sampler"),
        context=load("nodes.context_windows"), vae=load("nodes.comfy_vae"), encoders=load("nodes.comfy_encoders"), folders=load("nodes.folders"),
        errors=load("hunyuan_foley_core.errors"), sampling=load("hunyuan_foley_core.sampling"),
        checkpoint=load("hunyuan_foley_core.checkpoint"), small=load("hunyuan_foley_core.small_model"),
        convert=load("hunyuan_foley_core.convert"), lora=load("hunyuan_foley_core.lora"),
        training=load("hunyuan_foley_core.train.lora"),
    )


@pytest.fixture(scope="module")
def path(base):
    import small_weights

    return str(base / "models" / small_weights.TRANSFORMER)


@pytest.fixture(scope="module")
def patcher(nodes, path):
    return nodes.loading.load_foley_model(path)


@pytest.fixture(scope="module")
def exact_path(nodes, path, tmp_path_factory):
    """The transformer in float32."""
    from safetensors.torch import save_file

    file = tmp_path_factory.mktemp("exact") / "exact.safetensors"
    save_file({key: value.float() for key, value in nodes.checkpoint.read_state_dict(path)[0].items()}, file)
    return str(file)


@pytest.fixture(scope="module")
def lora(nodes, exact_path):
    """On every layer of every kind, as large as to be heard."""
    generator = torch.Generator().manual_seed(6)
    network = nodes.checkpoint.load_transformer(exact_path)
    adapted = nodes.training.add_lora(network, "all", rank=4, alpha=4.0, rslora=False, generator=generator)
    for name, parameter in adapted.items():
        if name.endswith("lora_B"):
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return nodes.training.lora_state_dict(network)


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(0)

    def normal(tokens):
        return torch.randn(1, tokens, WIDTH, generator=generator)

    return SimpleNamespace(
        text=normal(TEXT_TOKENS), negative=normal(TEXT_TOKENS), visual=normal(COUNTS["visual"]), sync=normal(COUNTS["sync"]),
        noise=torch.randn(1, WIDTH, FRAMES, generator=generator),
    )


@pytest.fixture
def conditions(nodes, features):
    keys = nodes.model
    lengths = {keys.LENGTHS_KEY: (COUNTS["visual"], COUNTS["sync"])}
    seen = {keys.VISUAL_KEY: features.visual, keys.SYNC_KEY: features.sync}
    return [[features.text, {**lengths, **seen}]], [[features.negative, lengths]]


@pytest.fixture
def run(comfy, nodes, features, conditions, monkeypatch):
    """Samples with ComfyUI's KSampler; `run.forwards` and `run.prepares` count what the diffusion model did."""
    network = nodes.model.FoleyDiffusionModel
    forward, prepare = network._forward, network.prepare

    def counted_forward(self, x, *args, **kwargs):
        sample.forwards.append(x.shape[0])
        return forward(self, x, *args, **kwargs)

    def counted_prepare(self, *args):
        sample.prepares += 1
        return prepare(self, *args)

    monkeypatch.setattr(network, "_forward", counted_forward)
    monkeypatch.setattr(network, "prepare", counted_prepare)

    def sample(patcher, positive=None, negative=None, noise=None, steps=4, cfg=4.5, sampler="euler"):
        sample.forwards, sample.prepares = [], 0
        noise = features.noise if noise is None else noise
        with torch.inference_mode():
            return comfy.sample.sample(
                patcher, noise, steps, cfg, sampler, "simple", positive or conditions[0], negative or conditions[1],
                torch.zeros_like(noise), seed=1, disable_pbar=True,
            )

    return sample
