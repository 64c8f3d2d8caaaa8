"""The benchmark's part that samples in ComfyUI, at its smallest. How fast anything is depends on the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench.py"
CHOSEN = ("fp8_scaled-full-4s-x1", "fp8_scaled-4GB-4s-x1")
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


@needs_proc
def test_sampling_is_measured_in_comfyui(comfyui, tmp_path):
    options = ["--comfyui", str(comfyui), "--json", str(tmp_path / "found.json"), "--only", *CHOSEN]
    smallest = ["--size", "tiny", "--device", "cpu", "--threads", "1", "--steps", "2", "--rounds", "1"]
    done = subprocess.run(
        [sys.executable, str(BENCH), "generate", *smallest, *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["generate"]["device"] == "cpu" and found["generate"]["steps"] == 2
    rows = {row["name"]: row for row in found["generate"]["rows"]}
    assert tuple(rows) == CHOSEN and not any("error" in row for row in rows.values()), rows
    for name, row in rows.items():
        assert row["peak_mb"] > row["weights_mb"] > 20 and row["seconds_per_clip"] > 0, row
        assert row["share_of_matmul"] == pytest.approx(
            row["gflop_per_clip"] / row["seconds_per_clip"] / row["matmul_gflop_per_second"]
        )
        assert row["times_as_fast"] == pytest.approx(row["plain_seconds_per_clip"] / row["seconds_per_clip"])
        assert f"| {name} |" in done.stdout
    full, partial = (rows[name] for name in CHOSEN)
    # XXL in scaled fp8 takes 7.5 GB, of which ComfyUI loads what 4 GB hold beside what it keeps free.
    assert 0.15 < partial["loaded_mb"] / partial["weights_mb"] < 0.55 < 0.95 < full["loaded_mb"] / full["weights_mb"]
    assert full["difference"] is None and partial["difference"] <= 1e-5


def test_when_the_time_is_up_nothing_more_is_begun_and_what_there_is_is_kept(comfyui, tmp_path):
    options = ["--comfyui", str(comfyui), "--json", str(tmp_path / "found.json"), "--only", *CHOSEN, "--minutes", "0"]
    done = subprocess.run(
        [sys.executable, str(BENCH), "generate", "--size", "tiny", "--device", "cpu", *options], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "found.json").read_text())["generate"]["rows"]
    assert [row["name"] for row in rows] == list(CHOSEN) and all("the time was up" in row["error"] for row in rows)
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_what_a_step_costs_beside_its_arithmetic(comfyui, tmp_path):
    options = ["--comfyui", str(comfyui), "--rounds", "1", "--json", str(tmp_path / "found.json")]
    done = subprocess.run([sys.executable, str(BENCH), "host", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())["host"]
    assert found["blocks"] == [18, 36] and found["milliseconds_per_step"] > 0
    assert "A step of 18 + 36 compiled blocks beside their arithmetic" in done.stdout
