"""What loading a pack changes in ComfyUI beside adding nodes, and how long it takes; JSON on standard output.

    python scripts/footprint.py COMFYUI [PACK ...]    in ComfyUI's Python; without PACK, this one

ComfyUI starts as far as it does before its page opens, without any pack; the packs are then loaded one after the other by
ComfyUI's own function. Everything below is looked at before and after, and what differs is named.
"""

import asyncio
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WATCHED = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "app", "execution", "folder_paths", "nodes", "server")
UPPER = ("torch", "torch.nn", "torch.nn.functional", "torch.nn.modules.module", "numpy", "av", "PIL.Image", "json", "logging")


def main() -> None:
    comfyui, packs = Path(sys.argv[1]).resolve(), [Path(name).resolve() for name in sys.argv[2:]] or [ROOT]
    with tempfile.TemporaryDirectory() as base:
        loop = start(comfyui, base)
        found = [measure(loop, pack) for pack in packs]
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        sys.stdout.flush()
        os._exit(0)  # the server's threads wait for work that never comes


def start(comfyui: Path, base: str) -> asyncio.AbstractEventLoop:
    """ComfyUI in this process, on the CPU, with all its own nodes and routes."""
    sys.argv = [
        "main.py", "--cpu", "--base-directory", base, "--disable-all-custom-nodes", "--disable-api-nodes",
        "--database-url", f"sqlite:///{base}/comfyui.db",
    ]
    sys.path[0] = str(comfyui)  # as if ComfyUI's main.py had been started
    os.chdir(base)
    import comfy.options

    comfy.options.enable_args_parsing()
    import main

    return main.start_comfyui()[0]


def measure(loop: asyncio.AbstractEventLoop, pack: Path) -> dict[str, Any]:
    """Loads a pack and says what came of it.

    Returns:
        `seconds`, `cpu_seconds`; `operations`: of torch, while loading; `nodes`: ids that came; `packages`: top-level
        names of modules that came and are neither Python's nor the pack's; `changed`: everything else, by kind.
    """
    import nodes

    before, modules, known = state(), set(sys.modules), set(nodes.NODE_CLASS_MAPPINGS)
    began, cpu = time.perf_counter(), time.process_time()
    with recorded_operations() as operations:
        loaded = loop.run_until_complete(nodes.load_custom_node(str(pack), module_parent="custom_nodes"))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    own = str(pack).replace(".", "_x_")
    came = {name.partition(".")[0] for name in set(sys.modules) - modules if not name.startswith(own)}
    return {
        "pack": pack.name, "loaded": loaded, "seconds": round(seconds, 3), "cpu_seconds": round(cpu, 3),
        "operations": operations.names, "nodes": sorted(set(nodes.NODE_CLASS_MAPPINGS) - known),
        "packages": sorted(came - sys.stdlib_module_names), "changed": differences(before, state(), own),
    }


def recorded_operations():
    """A context whose `names` are those of the torch operations that run within it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Operations(TorchDispatchMode):
        names: list[str]

        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            self.names.append(str(operation))
            return operation(*args, **(kwargs or {}))

    operations = Operations()
    operations.names = []
    return operations


def state() -> dict[str, dict[str, Any]]:
    """Kinds of things that a pack could change, each a name to a value that is compared."""
    import folder_paths
    import nodes

    return {
        "process": process(), "torch": torch_settings(), "random numbers": random_states(), "loggers": loggers(),
        "environment": dict(os.environ), "routes": routes(), "attributes": attributes(),
        "model folders": {name: repr(value) for name, value in folder_paths.folder_names_and_paths.items()},
        "web folders": dict(nodes.EXTENSION_WEB_DIRS), "nodes": dict(nodes.NODE_CLASS_MAPPINGS),
    }


def process() -> dict[str, Any]:
    return {
        "sys.path": list(sys.path), "sys.meta_path": list(sys.meta_path), "sys.path_hooks": list(sys.path_hooks),
        "sys.excepthook": sys.excepthook, "stdout": sys.stdout, "stderr": sys.stderr, "working folder": os.getcwd(),
        "warnings": list(warnings.filters), "signals": {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)},
        "threads": {thread.name for thread in threading.enumerate()}, "recursion": sys.getrecursionlimit(),
    }


def torch_settings() -> dict[str, Any]:
    import torch

    return {
        "default type": torch.get_default_dtype(), "default device": str(torch.get_default_device()),
        "threads": torch.get_num_threads(), "threads between": torch.get_num_interop_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(), "gradients": torch.is_grad_enabled(),
        "precision of products": torch.get_float32_matmul_precision(),
        "small numbers": torch.tensor(1e-310, dtype=torch.float64).item(),  # 0 where denormal ones are flushed
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "sharing": torch.multiprocessing.get_sharing_strategy(),
    }


def random_states() -> dict[str, Any]:
    import numpy as np
    import torch

    return {
        "python": random.getstate(), "numpy": np.random.get_state()[1].tobytes() + bytes([np.random.get_state()[2] % 256]),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def loggers() -> dict[str, Any]:
    named = {name: logger for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger)}
    return {
        name: (logger.level, list(logger.handlers), list(logger.filters), logger.propagate, logger.disabled)
        for name, logger in {"": logging.root, **named}.items()
    }


def routes() -> dict[str, Any]:
    import server

    instance = server.PromptServer.instance
    known = [(route.method, route.resource.canonical) for route in instance.app.router.routes() if route.resource]
    # Packs add to `routes`, which ComfyUI hands to the router once all packs are loaded.
    return dict.fromkeys(f"{method} {path}" for method, path in [*known, *((r.method, r.path) for r in instance.routes)])


def attributes() -> dict[str, Any]:
    """What ComfyUI's modules and their classes, and torch's and numpy's upper modules hold: a replaced function shows."""
    found = {}
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and (name.partition(".")[0] in WATCHED or name in UPPER):
            for key, value in list(vars(module).items()):
                found[f"{name}.{key}"] = value
                if isinstance(value, type) and value.__module__ == name:
                    found |= {f"{name}.{key}.{attribute}": held for attribute, held in vars(value).items()}
    return found


def differences(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], own: str) -> dict[str, list[str]]:
    """By kind, the names whose value is another, new or gone.

    New loggers below the pack's own name, new nodes and submodules that were imported are no change.
    """
    found = {}
    for kind, old in before.items():
        new = after[kind]
        names = {name for name in old if name not in new or not same(old[name], new[name])}
        names |= {name for name in new.keys() - old.keys() if not expected(kind, name, new[name], own)}
        if names:
            found[kind] = sorted(names)
    return found


def same(old: Any, new: Any) -> bool:
    if old is new:
        return True
    return isinstance(old, (str, bytes, int, float, bool, tuple, list, dict, set)) and type(old) is type(new) and old == new


def expected(kind: str, name: str, value: Any, own: str) -> bool:
    return kind == "nodes" or kind == "loggers" and name.startswith(own) or isinstance(value, ModuleType)


if __name__ == "__main__":
    main()
