"""Sampling that starts at given latents, with and without a mask."""

import pytest
import torch

from hunyuan_foley_core.checkpoint import load_transformer
from hunyuan_foley_core.errors import InputError
from hunyuan_foley_core.sampling import linear_sigmas, make_noise, sample
from hunyuan_foley_core.start import Start

from .parity import cases, relative_error, weights

CASES = cases("sampling")
OLD = make_noise(1, 16, 100, seed=9)


@pytest.fixture(scope="module")
def transformer():
    return load_transformer(weights("mmdit"))


def run(transformer, start, noise=CASES["noise"], steps=4):
    return sample(
        transformer, noise, text=CASES["text"], negative_text=CASES["negative_text"], visual=CASES["visual"],
        sync=CASES["sync"], steps=steps, start=start,
    )


def region(first, last):
    mask = torch.zeros(1, 1, 100)
    mask[..., first:last] = 1
    return mask


def test_strength_takes_the_end_of_a_longer_way():
    assert torch.equal(linear_sigmas(5, 2.0, 0.5), linear_sigmas(10, 2.0)[-6:])
    assert linear_sigmas(50, strength=0.3)[0] == pytest.approx(50 / 166)
    assert linear_sigmas(5, strength=0).tolist() == [0]


def test_full_strength_forgets_the_old_latents_and_none_keeps_them(transformer):
    assert torch.equal(run(transformer, Start(OLD)), run(transformer, Start()))
    assert torch.equal(run(transformer, Start(OLD, strength=0)), OLD)


def test_less_strength_stays_nearer(transformer):
    distances = [float((run(transformer, Start(OLD, strength)) - OLD).norm()) for strength in (0.1, 0.4, 0.8)]
    assert 0 < distances[0] < distances[1] < distances[2]


def test_outside_of_the_mask_nothing_changes(transformer):
    made = run(transformer, Start(OLD, mask=region(40, 60)))
    outside = region(40, 60)[0, 0] == 0
    torch.testing.assert_close(made[..., outside], OLD[..., outside], atol=1e-5, rtol=0)
    assert relative_error(made[..., ~outside], OLD[..., ~outside]) > 0.3


def test_a_whole_mask_is_none_and_a_soft_one_is_between(transformer):
    free = run(transformer, Start(OLD))
    torch.testing.assert_close(run(transformer, Start(OLD, mask=region(0, 100))), free, atol=1e-4, rtol=1e-4)
    half = run(transformer, Start(OLD, mask=torch.full((1, 1, 100), 0.5)))
    assert (half - OLD).norm() < (free - OLD).norm()


def test_what_is_kept_is_seen(transformer):
    other = torch.cat((OLD[..., :40], -OLD[..., 40:]), dim=-1)  # differs outside of the region alone
    made, made_beside_other = (run(transformer, Start(old, mask=region(10, 30))) for old in (OLD, other))
    assert relative_error(made_beside_other[..., 10:30], made[..., 10:30]) > 1e-3


def test_a_batch_shares_start_and_mask(transformer):
    noise = make_noise(2, 16, 100, seed=5)
    start = Start(OLD, 0.6, region(20, 50))
    together = run(transformer, start, noise)
    for take in range(2):
        alone = make_noise(1, 16, 100, seed=5, first_take=take)
        assert torch.equal(alone, noise[take : take + 1])
        assert relative_error(together[take : take + 1], run(transformer, start, alone)) <= 1e-5


@pytest.mark.parametrize("start, message", [
    (Start(OLD, 1.5), "strength is 1.5"),
    (Start(OLD, float("nan")), "strength is nan"),
    (Start(OLD[..., :-1]), r"\[1, 16, 99\]"),
    (Start(OLD, mask=torch.ones(1, 100)), r"mask have the shape \[1, 100\]"),
    (Start(OLD, mask=torch.ones(2, 1, 100)), r"mask have the shape \[2, 1, 100\]"),
    (Start(mask=region(0, 10)), "no latents to start from"),
])
def test_what_does_not_fit_is_refused(transformer, start, message):
    with pytest.raises(InputError, match=message):
        run(transformer, start)
