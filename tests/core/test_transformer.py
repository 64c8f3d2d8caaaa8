import json

import pytest
import torch

from hunyuan_foley_core.checkpoint import load_transformer
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.model.rope import interleaved_visual, nearest_indices
from hunyuan_foley_core.model.transformer import call_directly

from .parity import cases, relative_error, weights

CASES = cases("mmdit")


def inputs(case: str) -> dict[str, torch.Tensor]:
    names = ("latent", "timestep", "text", "visual", "sync")
    return {name: CASES[f"{case}.in.{name}"] for name in names}


def velocity(model, given):
    return model(given["latent"], given["timestep"], text=given["text"], visual=given["visual"], sync=given["sync"])


@pytest.fixture(scope="module")
def transformer():
    return load_transformer(weights("mmdit"))


@pytest.mark.parametrize("case", ["two_seconds", "long", "ragged"])
def test_velocity_equals_the_reference(transformer, case):
    assert relative_error(velocity(transformer, inputs(case)), CASES[f"{case}.out.velocity"]) <= 1e-6


def test_every_stage_equals_the_reference(transformer):
    given = inputs("two_seconds")
    found = {}

    def keep(kind, index, block, *args):
        if kind == "double_block":  # without the last argument the visual stream is worked out by the last of them, too
            args = args[:-1]
        found[kind, index] = block(*args)
        return found[kind, index]

    prepared = transformer.prepare(given["text"], given["visual"], given["sync"], 100)
    transformer.denoise(given["latent"], given["timestep"], prepared, call_block=keep)
    expected = {key.removeprefix("two_seconds.mid."): value for key, value in CASES.items() if ".mid." in key}
    for index in range(2):
        audio, visual = found["double_block", index]
        assert relative_error(audio, expected[f"mm_block.{index}.audio"]) <= 1e-6
        assert relative_error(visual, expected[f"mm_block.{index}.visual"]) <= 1e-6
    for index in range(3):
        assert relative_error(found["single_block", index], expected[f"single_block.{index}"]) <= 1e-6
    assert relative_error(transformer.cond_in(given["text"]), expected["cond_in"]) <= 1e-6
    assert relative_error(prepared.visual, expected["visual_proj"]) <= 1e-6
    assert relative_error(transformer.time_in(given["timestep"], torch.float32), expected["time_in"]) <= 1e-6
    stretched = expected["sync_in"][:, nearest_indices(40, 100, "cpu")]
    assert relative_error(prepared.sync, stretched) <= 1e-6


@pytest.mark.parametrize("case, frames", [("long", None), ("ragged", None), ("ragged", 11)])
def test_the_last_visual_stream_is_left_out_and_not_missed(transformer, case, frames):
    given = inputs(case)
    given["latent"] = given["latent"][..., :frames]
    conditions = [given[name] for name in ("text", "visual", "sync")]
    with torch.inference_mode():
        prepared = transformer.prepare(*conditions, given["latent"].shape[-1])

    def worked_on(call_block):
        """The velocity, and in which multimodal blocks the layers that only the visual stream has have run."""
        seen, handles = [], []
        for index, block in enumerate(transformer.triple_blocks):
            for layer in (block.v_cond_self_proj, block.v_cond_cross_q, block.v_cond_cross_proj, block.v_cond_mlp):
                handles.append(layer.register_forward_hook(lambda *_, index=index: seen.append(index)))
        with torch.inference_mode():
            velocity = transformer.denoise(given["latent"], given["timestep"], prepared, call_block=call_block)
        for handle in handles:
            handle.remove()
        return velocity, seen

    def whole(kind, index, block, *args):
        return block(*args[:-1]) if kind == "double_block" else block(*args)

    (short, in_short), (full, in_full) = worked_on(call_directly), worked_on(whole)
    assert relative_error(short, full) <= 1e-6
    assert in_short == [0] * 4 and in_full == [0] * 4 + [1] * 4


def test_prepared_conditions_serve_every_step(transformer):
    given = inputs("two_seconds")
    prepared = transformer.prepare(given["text"], given["visual"], given["sync"], 100)
    for time in (1000.0, 500.0, 20.0):
        timestep = torch.full((2,), time)
        again = transformer.denoise(given["latent"], timestep, prepared)
        assert torch.equal(again, velocity(transformer, given | {"timestep": timestep}))


def test_final_modulation_is_loaded_and_not_used():
    transformer = load_transformer(weights("mmdit"))
    before = velocity(transformer, inputs("ragged"))
    transformer.final_layer.adaLN_modulation[1].weight.mul_(100)
    assert torch.equal(before, velocity(transformer, inputs("ragged")))


@pytest.mark.parametrize("visual_tokens, latent_frames", [(16, 100), (23, 137), (100, 100), (99, 100), (7, 9), (1, 50)])
def test_stretching_and_shrinking_back_moves_no_visual_token(visual_tokens, latent_frames):
    stretched = nearest_indices(visual_tokens, latent_frames, "cpu")
    shrunk = stretched[nearest_indices(latent_frames, visual_tokens, "cpu")]
    assert torch.equal(shrunk, torch.arange(visual_tokens))
    positions, order = interleaved_visual(visual_tokens, latent_frames, "cpu")
    assert order is None and bool((positions % 2 == 1).all())


def test_more_visual_tokens_than_latent_frames_is_finite(transformer):
    given = inputs("ragged")
    result = velocity(transformer, given | {"latent": given["latent"][..., :11]})
    assert result.shape == (1, 16, 11) and bool(result.isfinite().all())


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_stored_types_compute_in_the_type_of_the_latents(tmp_path, stored):
    """A file with its large weights in a narrow type gives what the same rounded weights give in float32."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights("mmdit"))
    narrow = {k: v.to(stored) if v.ndim > 1 and stored.itemsize == 1 or stored.itemsize > 1 else v for k, v in tensors.items()}
    save_file(narrow, tmp_path / "narrow.safetensors")
    save_file({k: v.float() for k, v in narrow.items()}, tmp_path / "wide.safetensors")
    model, wide = load_transformer(tmp_path / "narrow.safetensors"), load_transformer(tmp_path / "wide.safetensors")
    assert model.triple_blocks[0].audio_mlp.fc1.weight.dtype == stored
    assert relative_error(velocity(model, inputs("ragged")), velocity(wide, inputs("ragged"))) <= 1e-6


def test_bfloat16_stays_close(transformer):
    given = {k: v.bfloat16() for k, v in inputs("ragged").items()}
    result = velocity(load_transformer(weights("mmdit"), dtype=torch.bfloat16), given)
    assert result.dtype == torch.bfloat16
    assert relative_error(result, CASES["ragged.out.velocity"]) < 0.05


def test_torch_nn_serves_as_layers():
    model = load_transformer(weights("mmdit"), ops=torch.nn)
    assert relative_error(velocity(model, inputs("long")), CASES["long.out.velocity"]) <= 1e-6


def test_wrong_widths_say_which(transformer):
    given = inputs("ragged")
    with pytest.raises(InputError, match="visual features.*takes .batch, tokens, 20"):
        velocity(transformer, given | {"visual": given["visual"][..., :-1]})
    with pytest.raises(InputError, match="55 sync tokens"):
        velocity(transformer, given | {"sync": given["sync"][:, :-1]})


def test_metadata_of_the_fixture_agrees_with_its_tensors(transformer):
    from safetensors import safe_open

    with safe_open(str(weights("mmdit")), "pt") as file:
        declared = json.loads(file.metadata()["config"])
    assert transformer.config.num_heads == declared["num_heads"]
    assert transformer.config.num_unimodal_blocks == declared["depth_single_blocks"]
