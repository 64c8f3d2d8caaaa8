"""The benchmark runs, compares like with like, and counts right. How fast anything is depends on the machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks import memory, plain_transformer
from benchmarks import step as transformer_step
from benchmarks.sizes import RELEASED, TINY, random_network

from hunyuan_foley_core.checkpoint import load_transformer
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.timing import ClipTiming

from .parity import FIXTURES, cases, relative_error, weights

BENCH = Path(__file__).parent.parent.parent / "scripts" / "bench.py"
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


@needs_proc
def test_every_part_runs_and_reports(tmp_path):
    options = ["--size", "tiny", "--rounds", "1", "--device", "cpu", "--json", str(tmp_path / "found.json")]
    done = subprocess.run([sys.executable, str(BENCH), *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["step"]["minimum"]["ours_over_floor"] > 0 and found["step"]["difference"] < 1e-5
    assert found["encode"]["peak_mb"] > 0 and found["decode"]["longest_over_shortest"] == 1
    for line in ("ours / straightforward ", "ours / floor", "Encode Video: 1 s of 160x96", "DAC decode"):
        assert line in done.stdout


def test_an_unknown_part_is_named():
    done = subprocess.run([sys.executable, str(BENCH), "stpe"], capture_output=True, text=True)
    assert done.returncode == 2 and "unknown part: stpe" in done.stderr


@pytest.mark.parametrize("case", ["two_seconds", "ragged"])
def test_the_plain_transformer_equals_the_reference(case):
    model, reference = load_transformer(weights("mmdit")), cases("mmdit")
    names = dict(latents="latent", timestep="timestep", text="text", visual="visual", sync="sync")
    given = {name: reference[f"{case}.in.{key}"] for name, key in names.items()}
    velocity = plain_transformer.velocity(model.state_dict(), model.config.num_heads, **given)
    assert relative_error(velocity, reference[f"{case}.out.velocity"]) <= 1e-6


@pytest.mark.parametrize("counts", [ClipTiming(50, 8, 16), ClipTiming(11, 23, 40), ClipTiming(23, 23, 8)])
def test_both_implementations_agree_at_any_lengths(counts):
    """With more visual tokens than latent frames, stretching and shrinking no longer cancel."""
    network = random_network(FoleyTransformer, TINY.transformer)
    inputs = transformer_step.random_inputs(TINY.transformer, counts, torch.device("cpu"))
    assert transformer_step.largest_difference(network, inputs) <= 1e-6


def test_operations_are_counted_as_by_hand():
    batch, frames, visual, sync, text, width, hidden = 2, 400, 64, 192, 77, 1536, 4096
    tokens = frames + visual
    multimodal = (
        batch * 2 * 9 * width**2  # modulation of both streams
        + batch * tokens * (3 + 1 + 1 + 1 + 8) * width**2  # qkv, projection, text queries, projection, MLP
        + batch * tokens * 2 * (tokens + text) * width  # logits and weighted sums
    )
    unimodal = (
        batch * sync * 6 * width**2
        + batch * frames * ((3 + 3) * width**2 + 3 * 3 * width * hidden)  # qkv, convolution, gated convolutions
        + batch * frames * 2 * frames * width
    )
    ends = batch * (256 * width + width**2) + batch * frames * 2 * 128 * width
    ours, plain = transformer_step.gflop(RELEASED.transformer, ClipTiming.from_seconds(8.0))
    assert ours == pytest.approx(2e-9 * (2 * multimodal + 4 * unimodal + ends), rel=1e-9)
    per_frame = 4 * batch * (frames - sync) * 6 * width**2
    conditions = batch * (
        text * (2 * 2 * width**2 + 768 * width + width**2)
        + visual * (2 * 768 * width + width**2)
        + sync * (768 * width + 3 * width * hidden)
    )
    assert plain - ours == pytest.approx(2e-9 * (per_frame + conditions), rel=1e-6)


def test_ratios_follow_from_the_seconds():
    fast, slow = (10, 100, 1000), (10, 100, 100)
    seconds = {"ours": [0.5, 0.4, 0.8], "plain": [0.9, 1.0, 0.8], fast: [0.002, 0.001, 0.004], slow: [0.1, 0.1, 0.1]}
    found = transformer_step.summary(seconds, [fast, slow], ours_gflop=0.4, plain_gflop=0.5)
    assert found["minimum"]["matmul_gflop_per_second"] == pytest.approx(2.0)
    assert found["minimum"]["matmul_shape"] == [10, 100, 1000]
    assert found["minimum"]["ours_over_plain"] == pytest.approx(0.5)
    assert found["minimum"]["ours_over_floor"] == pytest.approx(0.4 * 2.0 / 0.4)
    assert found["median"]["ours_over_floor"] == pytest.approx(0.5 * 1.0 / 0.4)
    assert found["median"]["plain_over_floor_of_plain"] == pytest.approx(0.9 * 1.0 / 0.5)


@needs_proc
def test_a_peak_is_seen_although_it_is_gone_at_the_end():
    found = memory.peak_during(lambda: float(torch.ones(25_000_000).sum()))
    assert 95 < found["peak_mb"] < 150


@pytest.mark.parametrize(
    "config, manifest",
    [
        (RELEASED.siglip2, "siglip2_base_patch16_512_vision"),
        (RELEASED.synchformer, "synchformer_state_dict"),
        (RELEASED.vae, "vae_128d_48k"),
        (RELEASED.transformer, "hunyuanvideo_foley_xxl"),
    ],
)
def test_the_sizes_are_the_released_ones(config, manifest):
    shapes = json.loads((FIXTURES / "manifests" / f"{manifest}.json").read_text())
    released = type(config).from_state_dict({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    differing = {name for name, value in vars(config).items() if getattr(released, name) != value}
    assert differing <= {"num_multimodal_blocks", "num_unimodal_blocks"}
