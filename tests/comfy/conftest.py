"""A real ComfyUI server with this pack, its weights, and small random ones under released names; one for the whole run."""

import os
from pathlib import Path

import pytest


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
