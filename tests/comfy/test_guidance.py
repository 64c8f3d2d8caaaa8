"""Guidance at some noise levels only, in ComfyUI's own samplers."""

import pytest
import torch

from tests.core.parity import relative_error


@pytest.fixture
def guide(nodes, patcher):
    """`guide(high, low)`: the model, guided within that interval only."""
    return lambda high, low: nodes.guidance.FoleyGuidanceInterval.execute(patcher, high, low).args[0]


def test_ksampler_computes_the_negative_prompt_only_inside(run, nodes, guide, path, features):
    sampled = run(guide(0.7, 0.3), steps=10)
    assert run.forwards == [1] * 3 + [2] * 4 + [1] * 3
    assert run.prepares == 2  # once for the pair, once for the conditional half
    transformer = nodes.checkpoint.load_transformer(path, dtype=torch.float32)
    expected = nodes.sampling.sample(
        transformer, features.noise, text=features.text, negative_text=features.negative,
        visual=features.visual, sync=features.sync, steps=10, guidance_interval=(0.7, 0.3),
    )
    assert relative_error(sampled, expected) < 2e-6


def test_the_whole_interval_changes_nothing_and_an_empty_one_is_cfg_1(run, guide, patcher):
    assert torch.equal(run(guide(1.0, 0.0)), run(patcher))
    assert torch.equal(run(guide(0.5, 0.5)), run(patcher, cfg=1.0))
    assert run.forwards == [1] * 4
    run(guide(1.0, 0.0), cfg=1.0)
    assert run.forwards == [1] * 4


@pytest.mark.parametrize("sampler, calls", [("heun", 9), ("dpmpp_2m", 5), ("euler_cfg_pp", 5)])
def test_other_samplers_are_guided_inside_only(run, guide, sampler, calls):
    run(guide(0.7, 0.3), steps=5, sampler=sampler)
    assert set(run.forwards) == {1, 2} and len(run.forwards) == calls


def test_another_way_to_predict_stays_in_place(comfy, run, nodes, patcher):
    """Such as the one of SkipLayerGuidanceDiTSimple, which unpacks the two conditions."""
    seen, other = [], patcher.clone()

    def predict(args):
        positive, negative = args["conds"]
        seen.append(negative is not None)
        return comfy.samplers.calc_cond_batch(args["model"], args["conds"], args["input"], args["sigma"], args["model_options"])

    other.set_model_sampler_calc_cond_batch_function(predict)
    run(nodes.guidance.guide_within(other, (1.0, 0.5)))
    assert seen == [True, True, False, False]


def test_the_foley_sampler_follows_it(run, nodes, guide, conditions, features):
    """`run` counts what happens; its own sampling is not used."""
    run.forwards = []
    run.prepares = 0
    with torch.inference_mode():
        nodes.sampler.FoleySampler.execute(
            guide(1.0, 0.5), *conditions, {"samples": torch.zeros_like(features.noise)}, 0, 4, 4.5, "euler", "linear", 1.0,
            "as encoded",
        )
    assert run.forwards == [2, 2, 1, 1]


def test_an_interval_upside_down_is_refused(nodes, guide):
    with pytest.raises(nodes.errors.InputError, match="from sigma 0.2 down to 0.6"):
        guide(0.2, 0.6)


def test_a_model_of_another_kind_is_refused(nodes):
    class Other:
        model = object()

    with pytest.raises(nodes.errors.InputError, match="Expected a HunyuanVideo-Foley transformer"):
        nodes.guidance.FoleyGuidanceInterval.execute(Other(), 1.0, 0.0)
