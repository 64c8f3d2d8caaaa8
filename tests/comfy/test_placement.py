"""The sound does not depend on where the weights lie: all on the device, some of them, or each moved when it is used."""

import pytest
import torch

from tests.core.parity import relative_error

FULL, PARTIAL, STREAMED = 1.0, 0.4, 0.0


@pytest.fixture
def place(comfy, nodes, path, exact_path, monkeypatch):
    """`place(dtype, share, lora)`: a model of its own with that share of its weights loaded, as ComfyUI would load it."""
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *args, **kwargs: None)

    def place(dtype, share, lora=None):
        file, weight_dtype = (exact_path, "default") if dtype == "fp32" else (path, dtype)
        patcher = nodes.loading.load_foley_model(file, weight_dtype)
        if lora is not None:
            patcher = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)[0]
            assert len(patcher.patches) == sum(key.endswith("lora_B.weight") for key in lora)
        with torch.inference_mode():
            # ComfyUI gives 0.1 bytes where nothing fits; 0 would mean everything.
            patcher.load(
                torch.device("cpu"), lowvram_model_memory=share * patcher.model_size() or 0.1, full_load=share == FULL
            )
        return patcher

    return place


def layers_left_behind(patcher):
    return sum(hasattr(module, "prev_comfy_cast_weights") for module in patcher.model.modules())


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp8_e4m3fn"])
def test_every_placement_sounds_the_same(run, place, dtype):
    full, partial, streamed = (place(dtype, share) for share in (FULL, PARTIAL, STREAMED))
    behind = [layers_left_behind(patcher) for patcher in (full, partial, streamed)]
    assert behind[0] == 0 < 10 < behind[1] < behind[2]
    expected = run(full)
    for patcher in (partial, streamed):
        assert relative_error(run(patcher), expected) <= 1e-5


# The full load rounds the sum of weight and LoRA to the stored type, streaming adds them in the computed type.
@pytest.mark.parametrize("dtype, tolerance", [("fp32", 1e-5), ("bf16", 0.02), ("fp8_e4m3fn", 0.1)])
def test_every_placement_sounds_the_same_with_a_lora(run, place, lora, dtype, tolerance):
    expected = run(place(dtype, FULL, lora))
    assert relative_error(expected, run(place(dtype, FULL))) > 2 * tolerance
    for share in (PARTIAL, STREAMED):
        assert relative_error(run(place(dtype, share, lora)), expected) <= tolerance


def test_parameters_outside_of_layers_follow_the_input(nodes, place, monkeypatch):
    """ComfyUI leaves them on the CPU unless it loads everything. `meta` takes the device's part: it mixes with no other."""
    from comfy.ldm.modules.attention import attention_pytorch

    monkeypatch.setattr(nodes.model, "optimized_attention", attention_pytorch)  # the usual one asks for free memory
    model = place("bf16", STREAMED).model
    outside = {name for name, _ in model.diffusion_model.named_parameters() if "." not in name}
    assert outside == {"empty_clip_feat", "empty_sync_feat", "sync_pos_emb"}

    def meta(*shape):
        return torch.empty(shape, device="meta")

    noise, text = torch.zeros(1, 128, 50), torch.zeros(1, 7, 128)
    conditions = model.extra_conds(noise=noise, cross_attn=text, device=torch.device("meta"))
    context, visual, sync = (conditions[name].cond for name in ("c_crossattn", "visual", "sync"))
    assert {tensor.device.type for tensor in (context, visual, sync)} == {"meta"}
    velocity = model.diffusion_model(meta(1, 128, 50), meta(1), context=context, visual=visual.float(), sync=sync.float())
    assert velocity.device.type == "meta" and velocity.shape == (1, 128, 50)


def test_running_out_of_memory_says_how_much_is_needed(comfy, run, nodes, patcher, features, monkeypatch):
    def full(*args, **kwargs):
        raise comfy.model_management.OOM_EXCEPTION("Allocation on device")

    monkeypatch.setattr(nodes.model.FoleyDiffusionModel, "_forward", full)
    message = r"2 x 2.0 s of sound. This needs about \d+\.\d\d GB"
    with pytest.raises(comfy.model_management.OOM_EXCEPTION, match=message) as raised:
        run(patcher, noise=torch.cat([features.noise, features.noise]))
    assert "Allocation on device" in str(raised.value) and raised.value.__context__ is None


def test_the_need_grows_with_the_sound_and_not_with_the_model(comfy, nodes, place):
    patcher, need = place("bf16", STREAMED), nodes.memory.bytes_needed
    frames = [need(patcher, (1, 128, count)) for count in (200, 400, 600)]
    assert frames[2] - frames[1] == pytest.approx(frames[1] - frames[0], abs=2) and frames[1] > frames[0]
    assert need(patcher, (2, 128, 200)) == pytest.approx(frames[1], abs=2)
    largest = max(weight.nbytes for weight in patcher.model.diffusion_model.parameters())
    activations = patcher.model.memory_required([1, 128, 200])
    rest = frames[0] - comfy.model_management.extra_reserved_memory() - activations
    assert 2 * largest <= rest < patcher.model_size()
