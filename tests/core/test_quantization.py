"""The transformer in fp8: every way of writing scales gives the same model, and what contradicts itself is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hunyuan_foley_core import lora, quantization
from hunyuan_foley_core.checkpoint import load_siglip2, load_transformer, read_state_dict
from hunyuan_foley_core.convert import convert
from hunyuan_foley_core.errors import CheckpointError
from hunyuan_foley_core.ops import Linear

from .parity import weights

E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2
LAYER = "triple_blocks.0.audio_self_proj"


@pytest.fixture(scope="module")
def scaled(tmp_path_factory):
    """The small transformer with its linear layers in scaled e4m3fn: tensors with `.weight_scale`, and no mark."""
    path = tmp_path_factory.mktemp("scaled") / "scaled.safetensors"
    convert(weights("mmdit"), path, "fp8_e4m3fn_scaled")
    return load_file(path)


def layers(tensors):
    return [key.removesuffix(".weight_scale") for key in tensors if key.endswith(".weight_scale")]


def as_header(tensors):
    found = {layer: {"format": "float8_e4m3fn"} for layer in layers(tensors)}
    return tensors, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": found})}


def as_marks(tensors, **settings):
    mark = torch.tensor(list(json.dumps({"format": "float8_e4m3fn", **settings}).encode()), dtype=torch.uint8)
    return tensors | {f"{layer}.comfy_quant": mark.clone() for layer in layers(tensors)}, {}


def as_old(tensors, marker=2):
    renamed = {key.replace(".weight_scale", ".scale_weight"): value for key, value in tensors.items()}
    inputs = {f"{layer}.scale_input": torch.ones(()) for layer in layers(tensors)}
    return renamed | inputs | {"scaled_fp8": torch.zeros(marker, dtype=E4M3)}, {}


def as_saved_by_comfyui(tensors):
    tensors, _ = as_old(tensors, marker=0)
    tensors |= {"cond_in.linear_1.scale_weight": torch.ones(())}
    tensors |= {LAYER + ".scale_weight": tensors[LAYER + ".scale_weight"][None]}
    return {f"model.diffusion_model.{key}": value for key, value in tensors.items()}, {}


FORMS = {"header": as_header, "marks": as_marks, "old": as_old, "saved": as_saved_by_comfyui}


def written(path, tensors, metadata=None):
    save_file(tensors, path, metadata or None)
    return path


def velocity(transformer):
    generator, config = torch.Generator().manual_seed(3), transformer.config

    def normal(*shape):
        return torch.randn(2, *shape, generator=generator)

    with torch.inference_mode():
        return transformer(
            normal(config.latent_channels, 30), torch.tensor([700.0, 300.0]), text=normal(5, config.text_dim),
            visual=normal(6, config.visual_dim), sync=normal(8, config.sync_dim),
        )


def multiplied_out(tensors):
    return {
        key: value.float() * tensors.get(key.removesuffix(".weight") + ".weight_scale", torch.ones(()))
        for key, value in tensors.items() if not key.endswith(".weight_scale")
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_model(tmp_path, scaled, form):
    path = written(tmp_path / "scaled.safetensors", *FORMS[form](dict(scaled)))
    expected = velocity(load_transformer(written(tmp_path / "plain.safetensors", multiplied_out(scaled))))
    transformer = load_transformer(path)
    kept = {name for name, parameter in transformer.named_parameters() if parameter.dtype == E4M3}
    assert kept == {f"{layer}.weight" for layer in layers(scaled)}
    torch.testing.assert_close(velocity(transformer), expected, atol=1e-5, rtol=1e-5)
    # Asked for in another type, the scales are multiplied into the weights.
    plain = load_transformer(path, dtype=torch.float32)
    assert not any(key.endswith("scale") for key in plain.state_dict())
    torch.testing.assert_close(velocity(plain), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
def test_unscaled_fp8_is_loaded_as_what_it_is(tmp_path, dtype):
    """Its bits unchanged, whatever of the file is fp8."""
    tensors = load_file(weights("mmdit"))
    tensors = {key: value.to(dtype) if value.ndim > 1 else value for key, value in tensors.items()}
    loaded = load_transformer(written(tmp_path / "fp8.safetensors", tensors)).state_dict()
    for key, value in tensors.items():
        assert loaded[key].dtype == value.dtype and torch.equal(loaded[key].view(torch.uint8), value.view(torch.uint8)), key
    assert any(value.dtype == dtype for value in loaded.values())


def without_scale(tensors):
    del tensors[LAYER + ".weight_scale"]
    return as_marks(tensors)


def without_old_scale(tensors):
    tensors, _ = as_old(tensors)
    del tensors[LAYER + ".scale_weight"]
    return tensors, {}


def with_scale(value):
    return lambda tensors: as_header(tensors | {LAYER + ".weight_scale": value})


def in_two_ways(tensors):
    return tensors | {LAYER + ".scale_weight": torch.ones(())}, {}


def with_two_types(tensors):
    return as_old(tensors | {LAYER + ".weight": tensors[LAYER + ".weight"].to(E5M2)})


def with_a_bf16_layer(tensors):
    return as_marks(tensors | {LAYER + ".weight": tensors[LAYER + ".weight"].bfloat16()})


def with_a_marker_of_another_type(tensors):
    return as_old(tensors)[0] | {"scaled_fp8": torch.zeros(0, dtype=E5M2)}, {}


def of_other_widths(tensors):
    return as_header(tensors | {LAYER + ".weight": tensors[LAYER + ".weight"][:, ::2].contiguous()})


def with_a_scaled_convolution(tensors):
    key = "single_blocks.0.linear1"
    return as_header(tensors | {f"{key}.weight": tensors[f"{key}.weight"].to(E4M3), f"{key}.weight_scale": torch.ones(())})


WRONG = {
    "no scale": (without_scale, f"no scale for `{LAYER}.weight`"),
    "no old scale": (without_old_scale, f"no scale for `{LAYER}.weight`"),
    "nan": (with_scale(torch.tensor(float("nan"))), f"the scale nan for `{LAYER}`.*finite"),
    "infinite": (with_scale(torch.tensor(float("inf"))), f"the scale inf for `{LAYER}`.*finite"),
    "a scale per row": (with_scale(torch.ones(4)), f"4 scales for `{LAYER}`"),
    "two ways": (in_two_ways, "mixes formats.*scale_weight.*weight_scale"),
    "two types": (with_two_types, "mixes formats.*float8"),
    "not fp8": (with_a_bf16_layer, f"mixes formats.*bfloat16 in `{LAYER}`.*float8_e4m3fn"),
    "marker": (with_a_marker_of_another_type, "mixes formats.*e4m3fn.*`scaled_fp8` says float8_e5m2"),
    "4 bits": (lambda tensors: as_marks(tensors, format="nvfp4"), "in the format nvfp4.*reads float8_e4m3fn"),
    "no JSON": (lambda tensors: (tensors, {"_quantization_metadata": "{"}), "_quantization_metadata.*not a JSON object"),
    "no layers": (lambda tensors: (tensors, {"_quantization_metadata": "{}"}), "no `layers`"),
    "strange layer": (
        lambda tensors: as_header(tensors | {"blocks.9.weight_scale": torch.ones(())}), "unknown blocks.9.weight_scale"
    ),
    "other widths": (of_other_widths, f"misshapen {LAYER}.weight"),
    "a convolution": (with_a_scaled_convolution, "unknown single_blocks.0.linear1.weight_scale"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_contradicts_itself_is_refused(tmp_path, scaled, case):
    change, message = WRONG[case]
    path = written(tmp_path / "wrong.safetensors", *change(dict(scaled)))
    with pytest.raises(CheckpointError, match=message) as caught:
        load_transformer(path)
    assert "wrong.safetensors" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unscaled_file_of_two_types_is_refused(tmp_path):
    tensors = load_file(weights("mmdit"))
    tensors |= {LAYER + ".weight": tensors[LAYER + ".weight"].to(E5M2)}
    tensors |= {"triple_blocks.1.audio_self_proj.weight": tensors["triple_blocks.1.audio_self_proj.weight"].to(E4M3)}
    with pytest.raises(CheckpointError, match="mixes formats"):
        load_transformer(written(tmp_path / "mixed.safetensors", tensors))


def test_only_the_transformer_may_be_quantised(tmp_path):
    tensors, config = read_state_dict(weights("siglip2_vision"))
    tensors |= {"vision_model.head.mlp.fc1.weight_scale": torch.ones(())}
    with pytest.raises(CheckpointError, match="is quantised.*SigLIP2 vision tower is read in fp32"):
        load_siglip2(written(tmp_path / "siglip.safetensors", tensors, {"config": json.dumps(config)}))


def test_scales_use_the_whole_range_and_zeros_stay():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 1e-4
    stored, scale = quantization.quantize(weight)
    assert stored.dtype == E4M3 and float(stored.float().abs().max()) == 448
    assert scale.shape == () and scale.dtype == torch.float32
    error = quantization.dequantize(stored, scale) - weight
    assert float(error.norm() / weight.norm()) < 0.03
    assert float((weight.to(E4M3).float() - weight).norm() / weight.norm()) > 0.9  # what scales are for
    assert float(quantization.dequantize(*quantization.quantize(torch.zeros(3, 3))).abs().max()) == 0


def test_a_scaled_layer_computes_in_the_type_of_its_input():
    layer, generator = Linear(32, 16), torch.Generator().manual_seed(0)
    weight = torch.randn(16, 32, generator=generator) / 6
    stored, layer.weight_scale = quantization.quantize(weight)
    layer.weight = torch.nn.Parameter(stored, requires_grad=False)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 2e-2)):
        x = torch.randn(5, 32, generator=generator).to(dtype)
        expected = torch.nn.functional.linear(x.float(), quantization.dequantize(stored, layer.weight_scale), layer.bias)
        result = layer(x)
        assert result.dtype == dtype
        torch.testing.assert_close(result.float(), expected, atol=tolerance, rtol=tolerance)


def test_a_lora_is_merged_into_scaled_layers(tmp_path, scaled):
    transformer = load_transformer(written(tmp_path / "scaled.safetensors", *as_header(scaled)))
    before = quantization.dequantize(scaled[LAYER + ".weight"], scaled[LAYER + ".weight_scale"])
    generator = torch.Generator().manual_seed(1)
    up, down = torch.randn(len(before), 2, generator=generator), torch.randn(2, before.shape[1], generator=generator)
    lora.merge(transformer, {f"diffusion_model.{LAYER}.lora_A.weight": down, f"diffusion_model.{LAYER}.lora_B.weight": up})
    layer = transformer.get_submodule(LAYER)
    expected = before + up @ down
    assert layer.weight.dtype == E4M3
    merged = quantization.dequantize(layer.weight, layer.weight_scale)
    assert float((merged - expected).norm() / expected.norm()) < 0.05


def test_a_lora_knows_its_model_in_fp8(tmp_path, scaled):
    transformer = load_transformer(written(tmp_path / "scaled.safetensors", *as_header(scaled)))
    assert lora.fingerprint(transformer) == lora.fingerprint(load_transformer(weights("mmdit")))


def test_a_device_without_fp8_gets_bf16(tmp_path, scaled, caplog):
    tensors = read_state_dict(written(tmp_path / "scaled.safetensors", *as_header(scaled)))[0]
    tensors = quantization.normalise(tensors | {"single_blocks.0.linear1.weight": torch.ones(4, 4, 3).to(E4M3)}, "It")
    assert quantization.held_by("cpu", tensors, "It") is tensors and not caplog.text
    held = quantization.held_by("mps", tensors, "It")
    assert not any(value.dtype == E4M3 or key.endswith("scale") for key, value in held.items())
    expected = quantization.dequantize(scaled[LAYER + ".weight"], scaled[LAYER + ".weight_scale"]).bfloat16()
    assert torch.equal(held[LAYER + ".weight"], expected)
    assert "It is kept in bf16: the device mps cannot hold fp8" in caplog.text
