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


def offline(*command) -> subprocess.CompletedProcess:
    return run("-m", "tests.no_network", *command)


def test_a_socket_of_python_ends_the_process():
    code = "from tests import no_network; no_network.forbid(); import socket; socket.socket()"
    done = run("-c", code)
    assert done.returncode == no_network.MADE_A_SOCKET and "socket.__new__" in done.stderr


@pytest.mark.skipif(platform.machine() not in no_network.ARCHITECTURES or sys.platform != "linux", reason="needs seccomp")
def test_a_socket_of_any_library_ends_the_process():
    code = "from tests import no_network; no_network.forbid(); import ctypes; ctypes.CDLL(None).socket(2, 1, 0)"
    assert run("-c", code).returncode == -signal.SIGSYS


def test_a_download_is_stopped(tmp_path):
    pytest.importorskip("huggingface_hub")
    assert offline("download", "--to", tmp_path).returncode == no_network.MADE_A_SOCKET


def test_the_whole_pipeline_runs_without_a_socket(tmp_path):
    video = ROOT / "workflows" / "foley_example.mp4"
    done = offline(
        "generate", "--video", video, "--prompt", "hammering", "--seconds", 1, "--steps", 2, "--out", tmp_path / "out.wav"
    )
    assert done.returncode == 0, done.stderr
    waveform, _ = media.read_audio(tmp_path / "out.wav")
    assert waveform.shape[-1] == 48_000 and waveform.std() > 0


def test_the_other_commands_run_without_a_socket(tmp_path):
    source = small_model.FOLDER / small_model.TRANSFORMER
    for command in (("convert", source, tmp_path / "copy.safetensors"), ("doctor",)):
        done = offline(*command)
        assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr
