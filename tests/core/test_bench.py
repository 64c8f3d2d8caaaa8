"""The benchmark runs, compares like with like, and counts right. How fast anything is depends on the machine."""

import json
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from benchmarks import comfy_session, configurations, generate, memory, plain_sampling, plain_transformer, random_file
from benchmarks import step as transformer_step
from benchmarks.sizes import RELEASED, TINY, XL, XXL, random_network

from hunyuan_foley_core import quantization
from hunyuan_foley_core.checkpoint import load_transformer, read_state_dict
from hunyuan_foley_core.convert import convert
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
    assert [row["product_over_convolution"] > 0 for row in found["convolutions"]["rows"]] == [True] * 3
    assert found["encode"]["peak_mb"] > 0 and found["decode"]["longest_over_shortest"] == 1
    for line in ("ours / straightforward ", "ours / floor", "Convolutions of 2 x", "Encode Video: 1 s of 160x96", "DAC decode"):
        assert line in done.stdout


def test_an_unknown_part_is_named():
    done = subprocess.run([sys.executable, str(BENCH), "stpe"], capture_output=True, text=True)
    assert done.returncode == 2 and "unknown part: stpe" in done.stderr


def test_configurations_are_chosen_by_name():
    names = [one.name for one in configurations.choose(("fp8-4GB-*-x4*", "bf16-full-8s-x1*"))]
    assert names == [
        *(f"fp8-4GB-{seconds}s-x4{ending}" for seconds in (4, 8, 15) for ending in ("", "-compiled")),
        "bf16-full-8s-x1", "bf16-full-8s-x1-compiled",
    ]
    listed = ["--list", "--only", "*-12GB-15s-x1"]
    done = subprocess.run([sys.executable, str(BENCH), *listed], capture_output=True, text=True)
    assert done.stdout.split() == ["bf16-12GB-15s-x1", "fp8-12GB-15s-x1", "fp8_scaled-12GB-15s-x1"]


@pytest.mark.parametrize("arguments, message", [
    (["generate"], "name its folder with --comfyui"),
    (["generate", "--comfyui", "nowhere"], "nowhere is no folder of ComfyUI"),
    (["--list", "--only", "bf16-3GB-*"], "no configuration is called bf16-3GB-*"),
])
def test_what_cannot_be_generated_is_said_at_once(arguments, message):
    done = subprocess.run([sys.executable, str(BENCH), *arguments], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr


@pytest.mark.parametrize(
    "precision, dtype", [("bf16", "bf16"), ("fp8", "fp8_e4m3fn"), ("fp8_scaled", "fp8_e4m3fn_scaled")]
)
def test_random_files_are_what_conversion_makes(tmp_path, precision, dtype):
    from safetensors.torch import save_file

    config = replace(TINY.transformer, hidden_size=128, num_heads=1, num_multimodal_blocks=1, num_unimodal_blocks=1)
    save_file(random_network(FoleyTransformer, config).state_dict(), tmp_path / "exact.safetensors")
    convert(tmp_path / "exact.safetensors", tmp_path / "converted.safetensors", dtype)
    made = random_file.make(tmp_path, config, precision, torch.device("cpu"))
    converted, _ = read_state_dict(tmp_path / "converted.safetensors")
    tensors, _ = read_state_dict(made)
    assert tensors.keys() == converted.keys()
    for key, tensor in tensors.items():
        assert tensor.dtype == converted[key].dtype and torch.equal(tensor.float(), converted[key].float()), key
    stored = (tensor.nbytes for key, tensor in tensors.items() if not key.endswith(quantization.LAYER_MARK))
    assert random_file.size(config, precision) == sum(stored)

    weights = plain_sampling.Weights(tensors, torch.device("cpu"), torch.float32)
    exact = load_transformer(made).requires_grad_(False)
    inputs = transformer_step.random_inputs(config, ClipTiming.from_seconds(1.0), torch.device("cpu"))
    plain = plain_transformer.velocity(weights, config.num_heads, **inputs)
    assert relative_error(plain, transformer_step.our_step(exact, inputs)()) <= 1e-5


def test_what_fails_is_a_row_of_its_own(monkeypatch, tmp_path):
    """One whose process is gone, one that is well, one that raises."""

    def fails(*arguments):
        raise torch.OutOfMemoryError("Allocation on device\nand more")

    class Pool:
        def submit(self, function, setting, one):
            future = Future()
            if one.seconds == 4:
                future.set_exception(BrokenProcessPool())
            elif one.seconds == 8:
                future.set_result({"latents": torch.ones(1), "seconds_per_clip": 1.0})
            else:
                future.set_result(function(setting, one))
            return future

        def shutdown(self):
            pass

    monkeypatch.setattr(generate, "_session", fails)
    monkeypatch.setattr(generate, "own_process", Pool)
    monkeypatch.setattr(generate, "_make_file", lambda *arguments: None)
    setting = generate.Setting(tmp_path, tmp_path, TINY.transformer, torch.device("cpu"), 1, 2, 1, "wall")
    rows = generate.measure(setting, configurations.choose(("bf16-full-*-x1",)), lambda doing: None)["rows"]
    errors = [row.get("error") for row in rows]
    assert "run out of memory" in errors[0] and errors[1] is None
    assert errors[2] == "OutOfMemoryError: Allocation on device"
    lines = generate.table({"rows": [row for row in rows if "error" in row]})
    assert sum("Allocation on device |" in line for line in lines) == 1


def test_a_limit_keeps_the_share_of_the_released_weights():
    shares = {cap: generate._share("bf16", cap) for cap in configurations.CAPS}
    assert shares[None] == shares[12] == 1 and shares[0] == 0
    assert 0.2 < shares[4] < shares[6] < shares[8] < 0.7
    assert generate._share("fp8", 8) == 1 > generate._share("fp8", 4) > shares[4]


def test_a_gpu_looks_as_small_as_it_is_to_be(monkeypatch):
    """Of 140 GB, 1 GB is CUDA's own; later the process allocates 2 GB more."""
    limits, free = [], [139e9]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (free[0], 140e9))
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: limits.append(share))
    comfy_session.pretend_memory(torch.device("cuda"), int(4e9))
    assert limits == [pytest.approx(3 / 140)]
    assert torch.cuda.mem_get_info() == (3e9, 4e9)
    free[0] = 137e9
    assert torch.cuda.mem_get_info(torch.device("cuda")) == (1e9, 4e9)


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
    # Nothing reads the visual stream after the last of them: of its attention only keys and values are of use.
    unread = batch * visual * ((1 + 1 + 1 + 8) * width**2 + 2 * (tokens + text) * width)
    unimodal = (
        batch * sync * 6 * width**2
        + batch * frames * ((3 + 3) * width**2 + 3 * 3 * width * hidden)  # qkv, convolution, gated convolutions
        + batch * frames * 2 * frames * width
    )
    ends = batch * (256 * width + width**2) + batch * frames * 2 * 128 * width
    ours, plain = transformer_step.gflop(RELEASED.transformer, ClipTiming.from_seconds(8.0))
    assert ours == pytest.approx(2e-9 * (2 * multimodal - unread + 4 * unimodal + ends), rel=1e-9)
    per_frame = 4 * batch * (frames - sync) * 6 * width**2
    conditions = batch * (
        text * (2 * 2 * width**2 + 768 * width + width**2)
        + visual * (2 * 768 * width + width**2)
        + sync * (768 * width + 3 * width * hidden)
    )
    assert plain - ours == pytest.approx(2e-9 * (unread + per_frame + conditions), rel=1e-6)


def test_a_guided_step_is_the_same_with_less_work():
    """The half without a picture has eight different sync tokens; the modulation of the others is left out."""
    counts = ClipTiming.from_seconds(4.0)
    network = random_network(FoleyTransformer, TINY.transformer)
    inputs = transformer_step.guided_inputs(network, counts, torch.device("cpu"))
    guided, ours = (make(network, inputs) for make in (transformer_step.guided_step, transformer_step.our_step))
    with torch.inference_mode():
        assert relative_error(guided(), ours()) <= 1e-5
    width, blocks = TINY.transformer.hidden_size, TINY.transformer.num_unimodal_blocks
    saved = 2e-9 * blocks * 6 * width**2 * (counts.sync_tokens - 8)
    assert transformer_step.counted(ours) - transformer_step.counted(guided) == pytest.approx(saved, rel=0.05)



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
    # In a process of its own: of one that is large already the system may take pages back meanwhile.
    found = memory.in_own_process(memory.peak_during, partial(torch.ones, 25_000_000))
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


@pytest.mark.parametrize("config, manifest", [(XXL, "xxl"), (XL, "xl")])
def test_whole_transformers_are_as_released(config, manifest):
    shapes = json.loads((FIXTURES / "manifests" / f"hunyuanvideo_foley_{manifest}.json").read_text())
    network = FoleyTransformer(config, device="meta")
    assert {key: list(tensor.shape) for key, tensor in network.state_dict().items()} == shapes
