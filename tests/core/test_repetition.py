"""Work that equal conditions share: in one generation, and among the sounds of a batch."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from hunyuan_foley_core.checkpoint import load_transformer
from hunyuan_foley_core.model.repetition import different_samples, different_tokens
from hunyuan_foley_core.sampling import make_noise, sample
from hunyuan_foley_core.velocity import prepare_generation

from .parity import cases, relative_error, weights

CASES = cases("sampling")
CONDITIONS = {name: CASES[name] for name in ("text", "negative_text", "visual", "sync")}
LISTED = {"texts": [CASES["text"]], "negative_texts": [CASES["negative_text"]], "visual": CASES["visual"], "sync": CASES["sync"]}
SYNC_TOKENS = CASES["sync"].shape[1]


@pytest.fixture(scope="module")
def transformer():
    return load_transformer(weights("mmdit"))


@pytest.fixture
def calls(transformer):
    """How often each layer that belongs to the conditions has run, and on how many rows in all."""
    counted, handles = {}, []
    watched = [transformer.visual_proj, transformer.cond_in, transformer.sync_in]
    watched += [block.text_cross_kv for block in transformer.triple_blocks]

    def count(module, inputs, output):
        times, rows = counted.get(watched.index(module), (0, 0))
        counted[watched.index(module)] = times + 1, rows + inputs[0].shape[0] * inputs[0].shape[1]

    handles = [module.register_forward_hook(count) for module in watched]
    yield counted
    for handle in handles:
        handle.remove()


def test_conditions_are_worked_on_once_for_all_steps_and_variations(transformer, calls):
    sample(transformer, CASES["noise"], **CONDITIONS, steps=5)
    alone = dict(calls)
    assert {times for times, _ in alone.values()} == {1}
    assert len(alone) == 3 + len(transformer.triple_blocks)
    calls.clear()
    sample(transformer, make_noise(4, 16, 100, seed=1), **CONDITIONS, steps=5)
    assert calls == alone


def test_variations_add_nothing_to_the_modulation_of_the_unimodal_blocks(transformer):
    def rows(batch):
        seen = []
        with torch.inference_mode():
            both, conditional = prepare_generation(transformer, make_noise(batch, 16, 100, seed=1), **LISTED)
            handle = transformer.single_blocks[0].modulation.register_forward_hook(
                lambda module, inputs, output: seen.append(len(inputs[0]))
            )
            transformer.denoise(torch.zeros(2 * batch, 16, 100), torch.full((2 * batch,), 500.0), both)
            handle.remove()
        return seen

    # The sync tokens of the video, and the eight that stand for no video.
    assert rows(1) == rows(3) == [SYNC_TOKENS + 8]


def test_a_guided_step_costs_less_than_two_alone(transformer):
    def flops(conditions, batch):
        with FlopCounterMode(display=False) as counter:
            transformer.denoise(torch.zeros(batch, 16, 100), torch.full((batch,), 500.0), conditions)
        return counter.get_total_flops()

    with torch.inference_mode():
        both, conditional = prepare_generation(transformer, make_noise(1, 16, 100, seed=1), **LISTED)
        apart = transformer.prepare(CONDITIONS["text"], CONDITIONS["visual"], CONDITIONS["sync"], 100)
        assert flops(both, 2) < 2 * flops(apart, 1)


def test_shared_work_changes_nothing(transformer):
    text, visual, sync = (CONDITIONS[name] for name in ("text", "visual", "sync"))
    generator = torch.Generator().manual_seed(3)
    latents, timestep = torch.randn(4, 16, 100, generator=generator), torch.full((4,), 700.0)
    features = [torch.cat((x, torch.randn(x.shape, generator=generator))) for x in (text, visual, sync)]
    samples = [1, 0, 0, 1]
    expected = transformer(latents, timestep, **dict(zip(("text", "visual", "sync"), (x[samples] for x in features))))
    with torch.inference_mode():
        prepared = transformer.prepare(*features, 100).of_samples(samples)
        assert relative_error(transformer.denoise(latents, timestep, prepared), expected) <= 1e-6


def test_samples_at_different_times_keep_their_own(transformer):
    """Equal conditions, which `prepare` alone must not mix: their modulation differs with the time."""
    names = ("text", "visual", "sync")
    latents, timestep = make_noise(2, 16, 100, seed=4), torch.tensor([900.0, 100.0])
    with torch.inference_mode():
        empty = transformer.empty_sync(SYNC_TOKENS).expand(2, -1, -1)
        pair = {name: CONDITIONS[name].expand(2, -1, -1) for name in names} | {"sync": empty}
        together = transformer(latents, timestep, **pair)
        for index in range(2):
            one = {name: tensor[:1] for name, tensor in pair.items()}
            alone = transformer(latents[index:index + 1], timestep[index:index + 1], **one)
            assert relative_error(together[index:index + 1], alone) <= 1e-6


def test_equal_tokens_of_one_sample_are_found():
    tokens = torch.tensor([[1.0, 2.0, 1.0], [1.0, 1.0, 3.0]])[..., None].expand(-1, -1, 4)
    with torch.no_grad():
        first, order = different_tokens(tokens)
    assert first.tolist() == [0, 1, 3, 5] and order.tolist() == [[0, 1, 0], [2, 2, 3]]
    first, order = different_tokens(tokens)  # gradients may flow
    assert first.tolist() == list(range(6)) and order.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_equal_samples_are_equal_in_all_features():
    one, other = torch.zeros(1, 2, 3), torch.ones(1, 2, 3)
    assert different_samples(torch.cat((one, other, one)), torch.cat((one, one, one))) == ([0, 1], [0, 1, 0])
    assert different_samples(torch.cat((one, one, one)), torch.cat((one, other, one))) == ([0, 1], [0, 1, 0])
