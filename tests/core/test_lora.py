"""LoRA: what it changes, what it trains, the file it becomes, and which files a model refuses."""

import copy
import dataclasses

import pytest
import torch
from safetensors.torch import save_file

from hunyuan_foley_core import lora
from hunyuan_foley_core.config import TransformerConfig
from hunyuan_foley_core.errors import CheckpointError
from hunyuan_foley_core.model import FoleyTransformer
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.lora import ATTENTION, PRESETS, add_lora, describe, lora_state_dict

SIZES = TransformerConfig(
    latent_channels=8, hidden_size=32, num_heads=2, num_multimodal_blocks=2, num_unimodal_blocks=2, mlp_hidden=48,
    conv_mlp_hidden=40, sync_mlp_hidden=48, text_dim=12, visual_dim=20, sync_dim=16, sync_tokens_per_segment=8,
    time_frequencies=32,
)


def build(seed=0, **changes) -> FoleyTransformer:
    model, generator = FoleyTransformer(dataclasses.replace(SIZES, **changes)), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5)
    return model.requires_grad_(False)


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(shape, generator=generator).to(dtype)

    conditions = dict(text=normal(2, 5, 12), visual=normal(2, 4, 20), sync=normal(2, 8, 16))
    return (normal(2, 8, 20), torch.tensor([300.0, 800.0])), conditions


def velocity(model, dtype=torch.float32):
    given, conditions = inputs(dtype)
    return model(*given, **conditions)


def with_lora(model, preset="all", rank=4, alpha=6.0, rslora=False, filled=True):
    """The model with a LoRA and the parameters of that; `filled` gives B values, as training would."""
    generator = torch.Generator().manual_seed(2)
    parameters = add_lora(model, preset, rank, alpha, rslora, generator)
    for name, parameter in parameters.items() if filled else ():
        if name.endswith("lora_B"):
            parameter.data.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model, parameters


def test_it_begins_as_the_model_it_is_added_to():
    model = build()
    before = velocity(model)
    with_lora(model, filled=False)
    assert torch.equal(velocity(model), before)


def test_all_covers_every_layer_of_both_block_kinds():
    model, parameters = with_lora(build())
    expected = {
        f"{name}.{part}" for name, module in model.named_modules() for part in ("lora_A", "lora_B")
        if name.startswith(("triple_blocks", "single_blocks")) and hasattr(module, "weight") and module.weight is not None
        and module.weight.ndim > 1
    }
    assert parameters.keys() == expected and len(expected) == 2 * (2 * 15 + 2 * 6)
    shapes = [tuple(parameters[f"single_blocks.0.linear1.lora_{part}"].shape) for part in "AB"]
    assert shapes == [(4, 32, 3), (32, 4, 1)]


@pytest.mark.parametrize("preset, parts", [
    ("multimodal", 2 * 15), ("unimodal", 2 * 6), ("attention", 2 * 9 + 2 * 2), ("all", 2 * 15 + 2 * 6),
])
def test_presets_choose_layers(preset, parts):
    _, parameters = with_lora(build(), preset)
    assert len(parameters) == 2 * parts
    if preset == "attention":
        assert {name.split(".")[2] for name in parameters} == ATTENTION
    assert set(PRESETS) == {"all", "multimodal", "unimodal", "attention"}


def test_gradients_reach_the_lora_alone():
    model, parameters = with_lora(build())
    velocity(model).square().mean().backward()
    assert parameters.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    # After the last multimodal block only the audio is read, so the visual stream's last updates go nowhere.
    unread = {f"triple_blocks.1.v_cond_{part}" for part in ("self_proj", "cross_q", "cross_proj", "mlp.fc1", "mlp.fc2")}
    assert parameters.keys() - reached == {f"{layer}.lora_{part}" for layer in unread for part in "AB"}


@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_trained_model_and_the_merged_one_are_the_same(preset, rslora):
    plain = build()
    model, _ = with_lora(copy.deepcopy(plain), preset, rslora=rslora)
    merged = copy.deepcopy(plain)
    lora.merge(merged, lora_state_dict(model))
    trained = velocity(model)
    torch.testing.assert_close(velocity(merged), trained, atol=1e-5, rtol=1e-5)
    assert (trained - velocity(plain)).norm() > 0.01 * trained.norm()


def test_strength_scales_what_is_added():
    plain, states = build(), []
    model, _ = with_lora(copy.deepcopy(plain))
    for strength in (0.0, 0.5, 1.0):
        merged = copy.deepcopy(plain)
        lora.merge(merged, lora_state_dict(model), strength)
        states.append(merged.single_blocks[0].linear1.weight)
    assert torch.equal(states[0], plain.single_blocks[0].linear1.weight)
    torch.testing.assert_close(states[1], (states[0] + states[2]) / 2)


def test_the_file_has_comfyuis_keys_and_scale():
    model, parameters = with_lora(build(), alpha=6.0, rslora=True)
    state = lora_state_dict(model)
    assert len(state) == len(parameters) * 3 // 2
    key = "diffusion_model.triple_blocks.1.audio_self_attn_qkv"
    assert [tuple(state[f"{key}.{part}"].shape) for part in ("lora_A.weight", "lora_B.weight", "alpha")] == [
        (4, 32), (96, 4), ()
    ]
    assert float(state[f"{key}.alpha"]) == pytest.approx(6.0 * 4**0.5)


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float8_e4m3fn])
def test_the_base_may_be_stored_small(storage):
    """Compared with the same rounded weights held in float32: the layers cast them at use."""
    model = build()
    for _, layer in lora.layers(model):
        layer.weight.data = layer.weight.data.to(storage)
    exact = copy.deepcopy(model).float()
    outcomes = []
    for each in (model, exact):
        _, parameters = with_lora(each)
        assert {parameter.dtype for parameter in parameters.values()} == {torch.float32}
        velocity(each).square().mean().backward()
        outcomes.append((velocity(each), parameters))
    torch.testing.assert_close(*(outcome for outcome, _ in outcomes))
    for name, parameter in outcomes[0][1].items():
        torch.testing.assert_close(parameter.grad, outcomes[1][1][name].grad)
    assert velocity(model, torch.bfloat16).dtype == torch.bfloat16
    lora.merge(model, lora_state_dict(exact))
    assert model.single_blocks[0].linear1.weight.dtype == storage


@pytest.mark.parametrize("preset, rank, message", [
    ("everything", 4, "'everything'. Known are all, multimodal"), ("all", 0, "rank of the LoRA is 0"),
])
def test_settings_that_mean_nothing_are_refused(preset, rank, message):
    with pytest.raises(TrainingError, match=message):
        with_lora(build(), preset, rank)


# Files


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A LoRA file and the plain model that it belongs to."""
    path, plain = tmp_path_factory.mktemp("lora") / "steps.safetensors", build()
    model, _ = with_lora(copy.deepcopy(plain))
    metadata = describe(model, "all", 4, 6.0, False, {"loop": {"steps": 10}})
    save_file({key: value.contiguous() for key, value in lora_state_dict(model).items()}, path, metadata)
    return path, plain


def test_a_file_loads_into_the_model_it_was_made_for(file, caplog):
    path, plain = file
    state, metadata = lora.read(path)
    assert lora.load(path, plain).keys() == state.keys() and not caplog.records
    assert (metadata["rank"], metadata["alpha"], metadata["preset"]) == ("4", "6.0", "all")


def test_other_weights_of_the_same_sizes_are_told_of(file, caplog):
    lora.load(file[0], build(seed=9))
    assert "another checkpoint of the same sizes" in caplog.text


def test_a_base_in_another_type_is_the_same_base():
    model = build().bfloat16()
    prints = {lora.fingerprint(model), lora.fingerprint(copy.deepcopy(model).float())}
    for _, layer in lora.layers(model):
        layer.weight.data = layer.weight.data.to(torch.float8_e4m3fn)
    with_lora(model)
    assert prints == {lora.fingerprint(model)}


@pytest.mark.parametrize("changes, message", [
    (
        dict(hidden_size=64),
        r"A \[4, 32.* for the layer .* takes A \[4, 64.* trained on a model of hidden_size 32\. Load the",
    ),
    (dict(num_unimodal_blocks=1), "6 layers that this model does not have: single_blocks.1.linear1.*num_unimodal_blocks 2"),
])
def test_a_lora_for_another_size_is_refused(file, changes, message):
    with pytest.raises(CheckpointError, match=message):
        lora.load(file[0], build(**changes))


KEY = "diffusion_model.single_blocks.0.linear_qkv"


@pytest.mark.parametrize("spoil, message", [
    (lambda state: state | {"lora_te_text.weight": torch.zeros(1)}, "has unknown keys: lora_te_text.weight"),
    (lambda state: state | {f"{KEY}.dora_scale": torch.zeros(1)}, "unknown keys.*dora_scale"),
    (lambda state: {k: v for k, v in state.items() if k != f"{KEY}.lora_B.weight"}, f"lacks {KEY}.lora_B.weight"),
    (lambda state: {}, "holds nothing"),
    (lambda state: state | {f"{KEY}.lora_A.weight": torch.zeros(3, 32)}, r"A \[3, 32\] and B \[96, 4\]"),
])
def test_a_spoilt_lora_is_refused_and_changes_nothing(file, spoil, message):
    model, before = build(), build().state_dict()
    with pytest.raises(CheckpointError, match=message):
        lora.merge(model, spoil(lora.read(file[0])[0]))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_without_alpha_the_scale_is_one(file):
    path, plain = file
    state = {key: value for key, value in lora.read(path)[0].items() if not key.endswith(".alpha")}
    assert {delta.scale for delta in lora.deltas(plain, state).values()} == {1.0}


@pytest.mark.parametrize("content, message", [(None, "There is no file"), (b"no tensors", "cannot be read")])
def test_files_that_are_none_are_named(tmp_path, content, message):
    path = tmp_path / "broken.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        lora.read(path)
