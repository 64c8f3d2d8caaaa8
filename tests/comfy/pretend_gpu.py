"""ComfyUI that takes the pretended device for its GPU: in this process, or as a node pack in a server."""

import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from tests.pretend_device import NAME, pretend_device, register

EVERYTHING = 64 * 1024**3
CROSSED = "Tensors that went to the pretended device:"
PACK = """\
import importlib.util, sys
for name, path in {modules!r}.items():
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
sys.modules[{name!r}].serve()
NODE_CLASS_MAPPINGS = {{}}
"""


def management(free: SimpleNamespace, module, half: bool = False) -> dict:
    """What of `comfy.model_management` is another.

    Args:
        free: `free.bytes` is how much memory ComfyUI finds free.
        half: whether the device is one that computes in bfloat16 and float16, as GPUs do.
    """

    def is_used(device=None, *args, **kwargs) -> bool:
        return half and device is not None and device.type == NAME

    def memory(dev=None, torch_free_too=False, torch_total_too=False):
        return (free.bytes, free.bytes) if torch_free_too or torch_total_too else free.bytes

    return {
        "get_torch_device": lambda: torch.device(NAME, 0), "vram_state": module.VRAMState.NORMAL_VRAM,
        "get_total_memory": memory, "get_free_memory": memory, "should_use_bf16": is_used, "should_use_fp16": is_used,
    }


def install(base: Path) -> None:
    """Puts a node pack into a base directory that makes the server there compute on the pretended device."""
    modules = {"tests.pretend_device": sys.modules["tests.pretend_device"].__file__, __name__: __file__}
    folder = base / "custom_nodes" / "pretend_gpu"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(PACK.format(modules=modules, name=__name__), encoding="utf-8")


def serve() -> None:
    """In a server, while it loads its node packs."""
    import comfy.model_management
    import execution

    for name, value in management(SimpleNamespace(bytes=EVERYTHING), comfy.model_management, half=True).items():
        setattr(comfy.model_management, name, value)
    register()
    execute = execution.PromptExecutor.execute

    def on_the_device(*args, **kwargs):
        with pretend_device() as crossed:
            execute(*args, **kwargs)
        logging.info("%s %d", CROSSED, crossed["to device"])

    execution.PromptExecutor.execute = on_the_device
