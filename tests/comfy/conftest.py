"""ComfyUI with this pack, its weights, and small random ones under released names: a real server, one for the whole run,
and its modules and ours inside this process.
"""

import importlib
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
def server(comfyui, base):
    """A running ComfyServer on the CPU, shared by all tests: leave its queue empty."""
    from comfy_server import ComfyServer

    # torch.compile's shared cache may hold what a run with other headers or another compiler left there.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TORCHINDUCTOR_CACHE_DIR", str(base / "inductor"))
        with ComfyServer(comfyui, base) as server:
            yield server


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
        vae=load("nodes.comfy_vae"), encoders=load("nodes.comfy_encoders"), folders=load("nodes.folders"),
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
