"""The benchmark taken along to a machine without a network."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

OFFLINE = Path(__file__).parents[2] / "scripts" / "offline.py"


def test_what_is_packed_here_runs_there(comfyui, tmp_path):
    def run(*words) -> None:
        done = subprocess.run([sys.executable, str(OFFLINE), *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + done.stdout

    folder, found = tmp_path / "bundle", tmp_path / "found.json"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    run("pack", folder, "--comfyui", comfyui, "--python", version, "--packages", "trampoline")
    with tarfile.open(folder / "comfyui.tar.gz") as archive:
        names = archive.getnames()
    assert "ComfyUI/comfy/ldm/models/autoencoder.py" in names and "ComfyUI/models" not in names
    options = ["--size", "tiny", "--device", "cpu", "--steps", "2", "--rounds", "1", "--json", found]
    for _ in range(2):  # unpacked once
        run("bench", folder, "generate", *options, "--only", "bf16-full-4s-x1")
    (row,) = json.loads(found.read_text())["generate"]["rows"]
    assert row["seconds_per_clip"] > 0 and (folder / "unpacked" / "packages" / "trampoline").is_dir()
    run("bench", folder, "--list", "--only", "*-full-4s-x1")
    (folder / "former-1.0-py3-none-any.whl").write_bytes(b"")
    run("pack", folder, "--comfyui", comfyui, "--python", version, "--packages", "trampoline")
    assert len(list(folder.glob("*.whl"))) == 1 and not (folder / "unpacked").exists()
