"""Code that runs inside ComfyUI sets nothing that all packs share: torch's settings, the environment, paths, loggers."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The command line's process is its own. Training's loop hears Ctrl-C and puts back the handlers that it found.
ALLOWED = {"cli.py": {"logging.basicConfig"}, "__main__.py": {"sys.path[0]"}, "loop.py": {"signal.signal"}}
CALLS = {
    "torch.set_default_dtype", "torch.set_default_device", "torch.set_default_tensor_type", "torch.set_num_threads",
    "torch.set_num_interop_threads", "torch.use_deterministic_algorithms", "torch.set_float32_matmul_precision",
    "torch.set_flush_denormal", "torch.seed", "np.random.seed", "random.seed", "os.putenv", "os.chdir", "os.umask",
    "sys.path.append", "sys.path.insert", "sys.setrecursionlimit", "logging.basicConfig", "logging.disable",
    "warnings.filterwarnings", "warnings.simplefilter", "signal.signal", "locale.setlocale", "socket.setdefaulttimeout",
}
ASSIGNED = ("torch.backends.", "os.environ", "sys.path", "sys.stdout", "sys.stderr", "sys.excepthook", "warnings.filters")


def broken(code: str) -> list[str]:
    """Calls and assignments that change what is shared."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            found.append(ast.unparse(node.func))
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AugAssign) else []
        found += [name for name in map(ast.unparse, targets) if name.startswith(ASSIGNED)]
    return found


FILES = sorted(path for top in ("nodes", "hunyuan_foley_core") for path in (ROOT / top).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_shared_is_set(path):
    assert set(broken(path.read_text(encoding="utf-8"))) <= ALLOWED.get(path.name, set())


@pytest.mark.parametrize("code", [
    "torch.set_num_threads(1)", "os.environ['A'] = '1'", "torch.backends.cudnn.benchmark = True", "sys.path += ['x']",
    "def f():\n    random.seed(0)",
])
def test_what_would_be_set_is_seen(code):
    assert len(broken(code)) == 1
