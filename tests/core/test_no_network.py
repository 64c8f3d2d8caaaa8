"""Only downloads use the network: everything else runs where no socket can be made."""

import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hunyuan_foley_core import media, small_model
from tests import no_network

ROOT = Path(__file__).parent.parent.parent


def run(*command) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True)


def test_a_socket_of_python_ends_the_process():
    code = "from tests import no_network; no_network.forbid(); import socket; socket.socket()"
    done = run("-c", code)
    assert done.returncode == no_network.MADE_A_SOCKET and "socket.__new__" in done.stderr


@pytest.mark.skipif(platform.machine() not in no_network.ARCHITECTURES or sys.platform != "linux", reason="needs seccomp")
def test_a_socket_of_any_library_ends_the_process():
    code = "from tests import no_network; no_network.forbid(); import ctypes; ctypes.CDLL(None).socket(2, 1, 0)"
    assert run("-c", code).returncode == -signal.SIGSYS


def test_a_download_is_stopped():
    pytest.importorskip("huggingface_hub")
    ask = "from hunyuan_foley_core.download import Hub; Hub().repository('a/b', ())"
    code = f"from tests import no_network; no_network.forbid(); {ask}"
    assert run("-c", code).returncode == no_network.MADE_A_SOCKET


def test_the_whole_pipeline_and_other_commands_run_without_a_socket(tmp_path):
    video, out = ROOT / "workflows" / "foley_example.mp4", tmp_path / "out.wav"
    generate = ("generate", "--video", video, "--prompt", "hammering", "--seconds", 1, "--steps", 2, "--out", out)
    mux = ("mux", video, out, "--out", tmp_path / "out.mp4")
    convert = ("convert", small_model.FOLDER / small_model.TRANSFORMER, tmp_path / "copy.safetensors")
    done = run("-m", "tests.no_network", *generate, "+", *mux, "+", *convert, "+", "doctor")
    assert done.returncode == 0, done.stderr
    waveform, _ = media.read_audio(tmp_path / "out.mp4")
    assert media.read_audio(out)[0].shape[-1] == 48_000 and waveform.std() > 0
    assert (tmp_path / "copy.safetensors").is_file() and "All is well." in done.stdout
