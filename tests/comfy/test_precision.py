"""Every way of storing the transformer, through the real loader: types in memory, results against the core."""

import json
import logging
from collections import Counter

import pytest
import torch

FORMS = ("header", "marks", "old")
LINEAR, EMBEDDER = "triple_blocks.0.audio_self_proj.weight", "time_in.mlp.0.weight"


@pytest.fixture(autouse=True)
def as_the_executor():
    """ComfyUI loads and samples in inference mode."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def scaled(nodes, path, tmp_path_factory):
    """The same scaled fp8 model, written in each of the ways that ComfyUI knows: paths by form."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("scaled")
    files = {form: folder / f"{form}.safetensors" for form in FORMS}
    nodes.convert.convert(path, files["header"], "fp8_e4m3fn_scaled")
    tensors = load_file(files["header"])
    layers = [key.removesuffix(".weight_scale") for key in tensors if key.endswith(".weight_scale")]
    mark = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    save_file(tensors | {f"{layer}.comfy_quant": mark.clone() for layer in layers}, files["marks"])
    old = {key.replace(".weight_scale", ".scale_weight"): value for key, value in tensors.items()}
    save_file(old | {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}, files["old"])
    return files


def relative(a, b):
    return float((a - b).norm() / b.norm())


def types(patcher):
    """Counted by what is held: newer versions wrap fp8 values and their scale in one tensor."""
    parameters = patcher.model.diffusion_model.parameters()
    return Counter(str(getattr(value, "_qdata", value).dtype).removeprefix("torch.") for value in parameters if value.ndim)


def core(nodes, path, features, lora=None):
    transformer = nodes.checkpoint.load_transformer(path)
    if lora is not None:
        nodes.lora.merge(transformer, lora)
    return nodes.sampling.sample(
        transformer, features.noise, text=features.text, negative_text=features.negative,
        visual=features.visual, sync=features.sync, steps=4,
    )


@pytest.mark.parametrize("form", FORMS)
def test_scaled_fp8_equals_the_core(run, nodes, scaled, features, form):
    patcher = nodes.loading.load_foley_model(str(scaled[form]))
    stored = nodes.checkpoint.load_transformer(scaled[form]).parameters()
    expected = Counter(str(value.dtype).removeprefix("torch.") for value in stored)
    assert types(patcher)["float8_e4m3fn"] == expected["float8_e4m3fn"] > 20
    assert relative(run(patcher), core(nodes, scaled[form], features)) < 2e-6


def test_scales_cost_less_than_none(run, nodes, path, patcher, scaled, tmp_path):
    nodes.convert.convert(path, tmp_path / "plain.safetensors", "fp8_e4m3fn")
    plain = nodes.loading.load_foley_model(str(tmp_path / "plain.safetensors"))
    with_scales = nodes.loading.load_foley_model(str(scaled["header"]))
    exact = run(patcher)
    assert 1e-4 < relative(run(with_scales), exact) < relative(run(plain), exact) < 0.05


def test_scaled_fp8_takes_loras_and_partial_loads(comfy, run, nodes, scaled, features, monkeypatch):
    path = str(scaled["header"])
    generator, lora = torch.Generator().manual_seed(2), {}
    state = nodes.checkpoint.load_transformer(path).state_dict()
    for layer in ("triple_blocks.0.text_cross_kv", "single_blocks.1.linear1"):  # scaled, and a convolution
        rows, *columns = state[f"{layer}.weight"].shape
        lora[f"diffusion_model.{layer}.lora_A.weight"] = torch.randn(4, *columns, generator=generator)
        up = 0.02 * torch.randn(rows, 4, generator=generator)  # 0.3.75 keeps the scale, so a large LoRA would be cut off
        lora[f"diffusion_model.{layer}.lora_B.weight"] = up.reshape(rows, 4, *[1] * (len(columns) - 1))
    patcher = nodes.loading.load_foley_model(path)
    plain = run(patcher)
    patched = run(comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)[0])
    assert relative(patched, plain) > 0.05
    assert relative(patched, core(nodes, path, features, lora)) < 0.05  # ComfyUI rounds at random
    assert torch.equal(run(patcher), plain)

    partial = nodes.loading.load_foley_model(path)
    partial.load(torch.device("cpu"), lowvram_model_memory=int(0.4 * partial.model_size()))
    assert partial.model.model_lowvram
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *args, **kwargs: None)
    assert torch.equal(run(partial), plain)


def test_what_comfyui_saves_of_it_loads_again(comfy, run, nodes, scaled, tmp_path):
    patcher = nodes.loading.load_foley_model(str(scaled["header"]))
    expected = run(patcher)
    comfy.sd.save_checkpoint(str(tmp_path / "saved.safetensors"), patcher)
    again = nodes.loading.load_foley_model(str(tmp_path / "saved.safetensors"))
    assert types(again) == types(patcher) and torch.equal(run(again), expected)


@pytest.mark.parametrize("choice, kept", [("bf16", "bfloat16"), ("fp16", "float16")])
def test_scales_are_multiplied_out_when_another_type_is_chosen(run, nodes, scaled, features, choice, kept):
    patcher = nodes.loading.load_foley_model(str(scaled["header"]), choice)
    assert set(types(patcher)) == {kept}
    assert relative(run(patcher), core(nodes, scaled["header"], features)) < 0.02


@pytest.mark.parametrize("stored", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("choice", ["default", "fp8_e4m3fn", "fp8_e5m2"])
def test_fp8_is_never_made_another_fp8(run, nodes, path, features, tmp_path, stored, choice, caplog):
    """Even where only a few layers are in it, and where the other is chosen."""
    from safetensors.torch import save_file

    tensors = dict(nodes.checkpoint.read_state_dict(path)[0])
    tensors[LINEAR] = tensors[LINEAR].to(stored)
    save_file(tensors, tmp_path / "fp8.safetensors")
    nodes.loading._say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        patcher = nodes.loading.load_foley_model(str(tmp_path / "fp8.safetensors"), choice)
        nodes.loading.load_foley_model(str(tmp_path / "fp8.safetensors"), choice)
    loaded = patcher.model.diffusion_model.state_dict()
    assert loaded[LINEAR].dtype == stored
    assert torch.equal(loaded[LINEAR].view(torch.uint8), tensors[LINEAR].view(torch.uint8))
    assert loaded[EMBEDDER].dtype == tensors[EMBEDDER].dtype
    is_other = choice not in ("default", str(stored).removeprefix("torch.float8_").join(("fp8_", "")))
    assert caplog.text.count("stays as it is") == is_other
    assert relative(run(patcher), core(nodes, tmp_path / "fp8.safetensors", features)) < 2e-6


@pytest.mark.parametrize("choice, cannot, kept", [
    ("fp8_e4m3fn", {torch.float8_e4m3fn}, torch.bfloat16),
    ("bf16", {torch.bfloat16}, torch.float16),
    ("fp8_e5m2", {torch.float8_e5m2, torch.bfloat16}, torch.float16),
])
def test_a_device_that_cannot_hold_a_type_gets_the_nearest(nodes, path, monkeypatch, caplog, choice, cannot, kept):
    """Apple's GPUs have no fp8, DirectML no bf16."""
    import comfy.model_management

    monkeypatch.setattr(comfy.model_management, "supports_cast", lambda device, dtype: dtype not in cannot)
    nodes.loading._say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            patcher = nodes.loading.load_foley_model(path, choice)
    assert set(types(patcher)) == {str(kept).removeprefix("torch.")}
    assert caplog.text.count("this device cannot hold") == 1


def test_a_scaled_file_on_a_device_without_fp8_is_multiplied_out(run, nodes, scaled, features, monkeypatch):
    import comfy.model_management

    cannot = (torch.float8_e4m3fn, torch.float8_e5m2)
    monkeypatch.setattr(comfy.model_management, "supports_cast", lambda device, dtype: dtype not in cannot)
    patcher = nodes.loading.load_foley_model(str(scaled["old"]))
    assert set(types(patcher)) == {"bfloat16"}
    assert relative(run(patcher), core(nodes, scaled["old"], features)) < 0.02


def test_wrong_files_are_named(nodes, scaled, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(scaled["old"])
    tensors |= {LINEAR.replace("weight", "scale_weight"): torch.tensor(float("inf"))}
    save_file(tensors, tmp_path / "infinite.safetensors")
    with pytest.raises(nodes.errors.CheckpointError, match="infinite.safetensors has the scale inf"):
        nodes.loading.load_foley_model(str(tmp_path / "infinite.safetensors"))


def test_weights_in_whole_numbers_are_refused_by_the_loader(nodes, path, tmp_path):
    from safetensors.torch import save_file

    tensors, _ = nodes.checkpoint.read_state_dict(path)
    save_file({key: (value * 100).to(torch.int8) for key, value in tensors.items()}, tmp_path / "whole.safetensors")
    with pytest.raises(nodes.errors.CheckpointError, match="whole.safetensors holds int8 in "):
        nodes.loading.load_foley_model(str(tmp_path / "whole.safetensors"))
