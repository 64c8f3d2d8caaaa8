import pytest
import torch

from hunyuan_foley_core.checkpoint import load_transformer
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.sampling import check_finite, linear_sigmas, make_noise, sample
from hunyuan_foley_core.timing import ClipTiming

from .parity import cases, relative_error, weights

CASES = cases("sampling")


@pytest.fixture(scope="module")
def transformer():
    return load_transformer(weights("mmdit"))


def run(transformer, **changes):
    arguments = dict(
        text=CASES["text"], negative_text=CASES["negative_text"], visual=CASES["visual"], sync=CASES["sync"],
        steps=6, guidance_scale=4.5,
    )
    return sample(transformer, changes.pop("noise", CASES["noise"]), **(arguments | changes))


@pytest.mark.parametrize("shift, guidance_scale", [(1.0, 1.0), (1.0, 4.5), (3.0, 4.5)])
def test_latents_equal_the_reference(transformer, shift, guidance_scale):
    result = run(transformer, shift=shift, guidance_scale=guidance_scale)
    assert relative_error(result, CASES[f"euler.shift{shift}.cfg{guidance_scale}.out"]) <= 2e-6


def test_no_video_means_the_learned_empty_features(transformer):
    counts = ClipTiming.from_latent_frames(100)
    explicit = run(
        transformer, visual=transformer.empty_visual(counts.visual_tokens), sync=transformer.empty_sync(counts.sync_tokens)
    )
    assert torch.equal(run(transformer, visual=None, sync=None), explicit)


def test_a_batch_equals_its_members(transformer):
    noise = make_noise(3, 16, 100, seed=5)
    together = run(transformer, noise=noise)
    for index in range(3):
        assert relative_error(together[index:index + 1], run(transformer, noise=noise[index:index + 1])) <= 1e-5


def test_a_guided_step_is_one_call(transformer, monkeypatch):
    batches = []
    denoise = transformer.denoise
    monkeypatch.setattr(transformer, "denoise", lambda x, *a, **k: batches.append(len(x)) or denoise(x, *a, **k))
    run(transformer)
    run(transformer, guidance_scale=1.0)
    assert batches == [2] * 6 + [1] * 6


def test_conditions_are_prepared_once(transformer, monkeypatch):
    calls = []
    prepare = transformer.prepare
    monkeypatch.setattr(transformer, "prepare", lambda *a: calls.append(1) or prepare(*a))
    run(transformer)
    assert len(calls) == 1


def test_the_callback_sees_every_step_and_can_stop(transformer):
    seen = []

    def stop_at_three(step, steps, latents):
        seen.append((step, steps, tuple(latents.shape)))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(transformer, callback=stop_at_three)
    assert seen == [(1, 6, (1, 16, 100)), (2, 6, (1, 16, 100)), (3, 6, (1, 16, 100))]


def test_sigmas():
    assert torch.allclose(linear_sigmas(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))
    assert torch.allclose(linear_sigmas(2, 3.0), torch.tensor([1.0, 0.75, 0.0]))
    for steps, shift in ((0, 1.0), (5, 0.0), (5, float("nan"))):
        with pytest.raises(InputError):
            linear_sigmas(steps, shift)


def test_noise_depends_on_the_seed_alone():
    torch.manual_seed(1)
    first = make_noise(1, 16, 10, seed=3)
    torch.manual_seed(2)
    assert torch.equal(first, make_noise(1, 16, 10, seed=3))
    assert not torch.equal(first, make_noise(1, 16, 10, seed=4))


def test_texts_of_different_length_are_refused(transformer):
    with pytest.raises(InputError, match="7 text tokens and the negative prompt 6"):
        run(transformer, negative_text=CASES["negative_text"][:, :-1])


def test_a_result_that_is_not_finite_is_an_error():
    latents = torch.zeros(1, 4, 5)
    latents[0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="1 values that are not finite .5 %"):
        check_finite(latents)


def test_outside_the_guidance_interval_the_unconditional_half_is_not_computed(transformer, monkeypatch):
    batches = []
    denoise = transformer.denoise
    monkeypatch.setattr(transformer, "denoise", lambda x, *a, **k: batches.append(len(x)) or denoise(x, *a, **k))
    within = run(transformer, steps=10, guidance_interval=(0.7, 0.3))
    # At 1.0, 0.9, 0.8 without; at 0.7 (in), 0.6, 0.5, 0.4 with; at 0.3 (out) and below without.
    assert batches == [1] * 3 + [2] * 4 + [1] * 3
    assert relative_error(within, step_by_step(transformer, lambda sigma: 4.5 if 0.35 < sigma < 0.75 else 1.0)) <= 1e-5


def step_by_step(transformer, scale_at):
    """Ten steps, each a run of its own from where the last one ended."""
    sigmas, latents = linear_sigmas(10), CASES["noise"]
    for sigma, following in zip(sigmas[:-1], sigmas[1:]):
        pair = dict(visual=CASES["visual"], sync=CASES["sync"])
        time = (sigma * 1000).expand(1)
        conditional = transformer(latents, time, text=CASES["text"], **pair)
        empty = dict(
            visual=transformer.empty_visual(pair["visual"].shape[1]), sync=transformer.empty_sync(pair["sync"].shape[1])
        )
        unconditional = transformer(latents, time, text=CASES["negative_text"], **empty)
        velocity = unconditional + scale_at(sigma) * (conditional - unconditional)
        latents = (latents + velocity * (following - sigma)).detach()
    return latents


def test_an_empty_interval_is_no_guidance_and_the_whole_is_all_of_it(transformer):
    assert torch.equal(run(transformer, guidance_interval=(0.5, 0.5)), run(transformer, guidance_scale=1.0))
    assert torch.equal(run(transformer, guidance_interval=(1.0, 0.0)), run(transformer))


@pytest.mark.parametrize("interval", [(0.2, 0.4), (1.5, 0.0), (1.0, -0.1), (float("nan"), 0.0)])
def test_an_impossible_interval_is_refused(transformer, interval):
    with pytest.raises(InputError, match="guidance interval"):
        run(transformer, guidance_interval=interval)
