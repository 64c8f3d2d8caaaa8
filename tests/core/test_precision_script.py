"""What `scripts/precision.py` measures, on a network of a few blocks."""

from dataclasses import replace

import pytest
import torch
from benchmarks import precision
from benchmarks.sizes import TINY, random_network

from hunyuan_foley_core.model import FoleyTransformer


@pytest.fixture(scope="module")
def case():
    config = replace(TINY.transformer, num_multimodal_blocks=1, num_unimodal_blocks=1)
    transformer, generator = random_network(FoleyTransformer, config).eval(), torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(1, *shape, generator=generator)

    latents = {sigma: normal(config.latent_channels, 20) for sigma in (1.0, 0.5)}
    text, negative = normal(3, config.text_dim), normal(3, config.text_dim)
    conditions = (text, negative, normal(4, config.visual_dim), normal(8, config.sync_dim))
    return precision.Case("A network", transformer, latents, conditions)


@pytest.fixture(scope="module")
def found(case):
    before = {key: value.clone() for key, value in case.transformer.state_dict().items()}
    result = precision.measure(case, lambda doing: None)
    assert all(torch.equal(before[key], value) for key, value in case.transformer.state_dict().items())
    return result


def test_fewer_bits_cost_more(found):
    errors = {name: row["velocity"] for name, row in found["storages"].items()}
    assert 0 < errors["fp16"] < errors["bf16"] < errors["fp8_e4m3fn_scaled"] < errors["fp8_e4m3fn"] < errors["fp8_e5m2"] < 0.2
    assert errors["fp8_e4m3fn_scaled"] < errors[precision.IN_FP8]
    assert errors["fp8_e4m3fn"] < errors["e4m3fn for every weight of the file"]


def test_the_groups_are_the_whole_model(case, found):
    for key, parameter in case.transformer.named_parameters():
        groups = [name for name, belongs in precision.GROUPS.items() if belongs(key, parameter)]
        used = not key.startswith(("final_layer.adaLN_modulation.1.weight", "empty_", "sync_pos_emb"))
        assert len(groups) == used, (key, groups)
    assert sum(row["share"] for row in found["groups"].values()) > 0.95


def test_the_tables_have_a_line_for_each(found):
    lines = precision.tables(found)
    assert lines[0] == "**A network**"
    assert sum(line.startswith("| ") for line in lines) == 4 + len(found["storages"]) + len(found["groups"])
    assert "sigma 0.5" in lines[2]
