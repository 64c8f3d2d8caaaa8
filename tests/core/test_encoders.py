"""The three encoders against the reference, against other people's implementations, and against themselves."""

import json
from pathlib import Path

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from safetensors.torch import load_file

from hunyuan_foley_core.config import ClapTextConfig, SigLIP2Config, SynchformerConfig
from hunyuan_foley_core.encoders import synchformer as synchformer_module
from hunyuan_foley_core.encoders.clap import ClapTextEncoder
from hunyuan_foley_core.encoders.layers import compute_placement
from hunyuan_foley_core.encoders.preprocess import normalise, siglip2_pixels, synchformer_pixels
from hunyuan_foley_core.encoders.siglip2 import SigLIP2VisionTower
from hunyuan_foley_core.encoders.synchformer import SynchformerVisualTower, segment_batches
from hunyuan_foley_core.errors import CheckpointError, InputError
from hunyuan_foley_core.timing import sync_segments

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOLERANCE = 1e-6  # relative; MODEL.md asks for 1e-5
NETWORKS = {
    "siglip2_vision": (SigLIP2VisionTower, SigLIP2Config, "siglip2_base_patch16_512_vision"),
    "synchformer_visual": (SynchformerVisualTower, SynchformerConfig, "synchformer_state_dict"),
    "clap_text": (ClapTextEncoder, ClapTextConfig, "larger_clap_general_text"),
}


def relative_error(out, reference) -> float:
    assert out.shape == reference.shape
    return ((out.float() - reference.float()).norm() / reference.float().norm()).item()


def wanted(network, tensors: dict) -> dict:
    return {key: value for key, value in tensors.items() if not key.startswith(network.KNOWN_EXTRA_PREFIXES)}


def assemble(network, config, tensors: dict):
    with torch.device("meta"):
        module = network(config)
    module.load_state_dict(wanted(network, tensors), strict=True, assign=True)
    return module.requires_grad_(False)


def fixture(name: str):
    """The tiny network of the parity folder, its config and its cases."""
    network, config_class, _ = NETWORKS[name]
    path = FIXTURES / "parity" / f"{name}.weights.safetensors"
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    module = assemble(network, config_class.from_state_dict(tensors, metadata), tensors)
    return module, load_file(FIXTURES / "parity" / f"{name}.cases.safetensors")


@pytest.fixture(scope="module")
def siglip2():
    return fixture("siglip2_vision")


@pytest.fixture(scope="module")
def synchformer():
    return fixture("synchformer_visual")


@pytest.fixture(scope="module")
def clap():
    return fixture("clap_text")


# Parity with the released code.


def test_siglip2_parity(siglip2):
    tower, cases = siglip2
    pixels = normalise(siglip2_pixels(cases["frames_uint8"]))
    assert relative_error(pixels[0, :, ::8, ::8], cases["pixel_values_first"]) <= TOLERANCE
    assert relative_error(pixels[0, :, 200:232, 200:232], cases["pixel_values_crop"]) <= TOLERANCE
    assert relative_error(tower.encode_frames(cases["frames_uint8"]), cases["features"]) <= TOLERANCE


def test_synchformer_parity(synchformer):
    tower, cases = synchformer
    frames = cases["frames_uint8"]
    assert relative_error(normalise(synchformer_pixels(frames[:1])[0]), cases["pixels_first_frame"]) <= TOLERANCE
    assert relative_error(tower.encode_frames(frames), cases["features"][0]) <= TOLERANCE


def test_clap_parity(clap):
    encoder, cases = clap
    features = encoder.encode_tokens(cases["input_ids"], cases["attention_mask"])
    assert relative_error(features, cases["last_hidden_state"]) <= TOLERANCE


# Keys of the released files.


@pytest.mark.parametrize("name", NETWORKS)
def test_every_released_key_is_consumed_or_named(name):
    network, config_class, manifest = NETWORKS[name]
    shapes = json.loads((FIXTURES / "manifests" / f"{manifest}.json").read_text())
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assemble(network, config_class.from_state_dict(tensors), tensors)


@pytest.mark.parametrize("name", NETWORKS)
def test_extra_prefixes_hide_no_key_of_ours(name):
    network, config_class, manifest = NETWORKS[name]
    shapes = json.loads((FIXTURES / "manifests" / f"{manifest}.json").read_text())
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    ours = assemble(network, config_class.from_state_dict(tensors), tensors).state_dict()
    assert ours and not [key for key in ours if key.startswith(network.KNOWN_EXTRA_PREFIXES)]


# Against other implementations.


def test_siglip2_agrees_with_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = dict(hidden_size=128, intermediate_size=200, num_hidden_layers=2, num_attention_heads=2)
    config = transformers.SiglipVisionConfig(**sizes, image_size=64, patch_size=16)
    oracle = transformers.SiglipVisionModel(config).eval()
    randomise(oracle)
    prefix = "" if any(key.startswith("vision_model.") for key in oracle.state_dict()) else "vision_model."
    tensors = {prefix + key: value for key, value in oracle.state_dict().items()}
    tower = assemble(SigLIP2VisionTower, SigLIP2Config.from_state_dict(tensors), tensors)
    pixels = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(tower(pixels), oracle(pixels).pooler_output) <= TOLERANCE


def test_clap_agrees_with_transformers():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = dict(hidden_size=128, intermediate_size=200, num_hidden_layers=2, num_attention_heads=2)
    config = transformers.ClapTextConfig(vocab_size=90, max_position_embeddings=40, **sizes)
    oracle = transformers.ClapTextModel(config).eval()
    randomise(oracle)
    prefix = "" if any(key.startswith("text_model.") for key in oracle.state_dict()) else "text_model."
    tensors = {prefix + key: value for key, value in oracle.state_dict().items()}
    encoder = assemble(ClapTextEncoder, ClapTextConfig.from_state_dict(tensors), tensors)
    ids, mask = padded_tokens([9, 23, 2])
    with torch.no_grad():
        expected = oracle(input_ids=ids, attention_mask=mask).last_hidden_state
    assert relative_error(encoder.encode_tokens(ids, mask), expected) <= TOLERANCE


def randomise(module):
    """Values large enough that norms, biases and positions all matter."""
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)


def padded_tokens(lengths, vocab=90, total=None):
    total = total or max(lengths)
    generator = torch.Generator().manual_seed(1)
    ids, mask = torch.ones(len(lengths), total, dtype=torch.int64), torch.zeros(len(lengths), total, dtype=torch.int64)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, vocab, (length,), generator=generator)
        mask[row, :length] = 1
    return ids, mask


@pytest.mark.parametrize("kind", ["attn", "timeattn"])
def test_divided_attention_is_full_attention_under_a_mask(synchformer, kind):
    tower, _ = synchformer
    attention = getattr(tower.vfeat_extractor.blocks[0], kind)
    time_steps, places, heads = 3, 5, attention.num_heads
    tokens = torch.randn(2, 1 + time_steps * places, 48, generator=torch.Generator().manual_seed(0))
    group = torch.arange(time_steps * places)
    group = group % places if kind == "timeattn" else group // places
    allowed = torch.ones(1 + len(group), 1 + len(group), dtype=torch.bool)
    allowed[1:, 1:] = group[:, None] == group[None, :]

    query, key, value = rearrange(attention.qkv(tokens), "B N (three H d) -> three B H N d", three=3, H=heads)
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    mixed = logits.masked_fill(~allowed, float("-inf")).softmax(dim=-1) @ value
    expected = attention.proj(rearrange(mixed, "B H N d -> B N (H d)"))
    assert relative_error(attention(tokens, time_steps), expected) <= TOLERANCE


def test_aggregator_is_a_pre_norm_transformer_layer(synchformer):
    aggregator = synchformer[0].vfeat_extractor.spatial_attn_agg
    oracle = torch.nn.TransformerEncoderLayer(
        48, aggregator.self_attn.num_heads, 192, dropout=0.0, activation="gelu", layer_norm_eps=1e-6,
        batch_first=True, norm_first=True,
    )
    weights = dict(aggregator.state_dict())
    cls = weights.pop("cls_token")
    oracle.load_state_dict(weights)
    patches = torch.randn(4, 7, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = oracle(torch.cat([cls.expand(4, -1, -1), patches], dim=1))[:, 0]
    assert relative_error(aggregator(patches), expected) <= TOLERANCE


# Batches, layouts, types.


def from_decoder(frames):
    return frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["siglip2", "synchformer"])
def test_batch_size_and_layout_change_nothing(request, name):
    tower, cases = request.getfixturevalue(name)
    frames = cases["frames_uint8"]
    whole = tower.encode_frames(frames, batch_size=99)
    assert torch.equal(tower.encode_frames(from_decoder(frames), batch_size=99), whole)
    assert relative_error(tower.encode_frames(frames, batch_size=1), whole) <= TOLERANCE
    assert torch.equal(tower.encode_frames(frames, batch_size=1), tower.encode_frames(frames, batch_size=1))


@pytest.mark.parametrize("name", ["siglip2", "synchformer"])
def test_frames_may_come_resized(request, name):
    tower, cases = request.getfixturevalue(name)
    resize = {"siglip2": siglip2_pixels, "synchformer": synchformer_pixels}[name]
    frames = cases["frames_uint8"]
    assert torch.equal(tower.encode_frames(resize(frames)), tower.encode_frames(frames))


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize("name", NETWORKS)
def test_weights_compute_in_float32_from_any_storage(request, name, storage):
    module, cases = fixture(name)
    module.to(storage)

    def run():
        if name == "clap_text":
            return module.encode_tokens(cases["input_ids"], cases["attention_mask"], dtype=torch.float32)
        return module.encode_frames(cases["frames_uint8"], dtype=torch.float32)

    stored = run()
    assert stored.dtype == torch.float32 and stored.isfinite().all()
    module.float()
    assert torch.equal(stored, run())


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_stays_near(name):
    """bf16 has 8 bits: a wrong cast shows as an error far above 2 %."""
    module, cases = fixture(name)
    if name == "clap_text":
        out = module.encode_tokens(cases["input_ids"], cases["attention_mask"], dtype=torch.bfloat16)
        assert relative_error(out, cases["last_hidden_state"]) < 0.02
    else:
        out = module.encode_frames(cases["frames_uint8"], dtype=torch.bfloat16)
        assert relative_error(out, cases["features"].reshape(out.shape)) < 0.02
    assert out.dtype == torch.float32


def test_types_that_only_store_compute_in_float32():
    for storage, computed in [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32),
        (torch.float8_e4m3fn, torch.float32),
    ]:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.zeros(1, dtype=storage), requires_grad=False)
        assert compute_placement(module) == (torch.device("cpu"), computed)
        assert compute_placement(module, "meta", torch.float64) == (torch.device("meta"), torch.float64)
    assert compute_placement(module.to(torch.float16), "cuda:0")[1] == torch.float16


# Segments.


@pytest.mark.parametrize("frames,segments", [(16, 1), (23, 1), (24, 2), (39, 3), (40, 4), (81, 9)])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_segments_start_every_eight_frames(frames, segments, batch_size):
    clip = torch.arange(frames, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    starts = [batch[:, 0, :, 0, 0].tolist() for batch in segment_batches(clip, batch_size, 32)]
    assert all(len(batch) <= batch_size for batch in starts)
    assert sum(starts, []) == [list(range(8 * i, 8 * i + 16)) for i in range(segments)]
    assert segments == sync_segments(frames)


@pytest.mark.parametrize("frames", [1, 9, 15])
def test_short_clips_hold_their_last_frame(synchformer, frames):
    tower, cases = synchformer
    clip = cases["frames_uint8"][:frames]
    held = torch.cat([clip, clip[-1:].expand(16 - frames, -1, -1, -1)])
    tokens = tower.encode_frames(clip)
    assert tokens.shape == (8, 48)
    assert torch.equal(tokens, tower.encode_frames(held))


def test_each_frame_is_resized_once(monkeypatch):
    seen = []

    def count(frames, size):
        seen.append(len(frames))
        return synchformer_pixels(frames, size)

    monkeypatch.setattr(synchformer_module, "synchformer_pixels", count)
    list(segment_batches(torch.zeros(45, 3, 32, 32, dtype=torch.uint8), 2, 32))
    assert seen == [24, 16]


# What callers rely on.


@pytest.mark.parametrize("name,counts", [("siglip2", [(1, 2), (2, 2)]), ("synchformer", [(1, 2), (2, 2)])])
def test_callback_counts_and_cancels(request, name, counts):
    tower, cases = request.getfixturevalue(name)
    calls = []
    tower.encode_frames(cases["frames_uint8"], batch_size=1, callback=lambda *count: calls.append(count))
    assert calls == counts

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tower.encode_frames(cases["frames_uint8"], batch_size=1, callback=cancel)


def test_features_carry_no_graph(siglip2):
    tower, cases = siglip2
    trainable = fixture("siglip2_vision")[0].requires_grad_(True)
    assert not trainable.encode_frames(cases["frames_uint8"][:1]).requires_grad


@pytest.mark.parametrize("name", ["siglip2", "synchformer"])
def test_float_frames_are_refused(request, name):
    tower, cases = request.getfixturevalue(name)
    with pytest.raises(InputError, match="torch.float32"):
        tower.encode_frames(cases["frames_uint8"].float() / 255)


# Text.


def test_padding_is_masked_but_not_removed(clap):
    """More padding leaves the tokens as they were and gives the padding features of its own."""
    encoder, _ = clap
    ids, mask = padded_tokens([5, 8])
    longer = padded_tokens([5, 8], total=11)
    features, padded = encoder.encode_tokens(ids, mask), encoder.encode_tokens(*longer)
    assert relative_error(padded[:, :8], features) <= TOLERANCE
    assert padded.shape == (2, 11, 48) and padded[:, 8:].abs().min() > 0
    assert torch.equal(encoder.encode_tokens(ids, mask), features)


def test_a_text_of_padding_only_is_finite(clap):
    ids, mask = padded_tokens([5, 0])
    assert clap[0].encode_tokens(ids, mask).isfinite().all()


def test_the_longest_text_fits_and_one_more_does_not(clap):
    encoder, _ = clap
    assert encoder.config.max_tokens == 88
    assert encoder.encode_tokens(*padded_tokens([88])).shape == (1, 88, 48)
    with pytest.raises(InputError, match="89 tokens.*at most 88"):
        encoder.encode_tokens(*padded_tokens([89]))


@pytest.mark.parametrize(
    "ids,mask,named",
    [
        (torch.full((1, 4), 120), torch.ones(1, 4), "from 120 to 120"),
        (torch.full((1, 4), -1), torch.ones(1, 4), "from -1"),
        (torch.ones(1, 4).long(), torch.ones(1, 3), "[1, 3]"),
        (torch.ones(4).long(), torch.ones(4), "[4]"),
        (torch.ones(0, 4).long(), torch.ones(0, 4), "[0, 4]"),
    ],
)
def test_wrong_tokens_are_named(clap, ids, mask, named):
    with pytest.raises(InputError) as error:
        clap[0].encode_tokens(ids, mask)
    assert named in str(error.value)


def test_text_needs_a_tokenizer(clap):
    with pytest.raises(CheckpointError, match="tokenizer.json"):
        clap[0].encode_text(["rain"])


def test_text_goes_through_the_tokenizer():
    encoder, cases = fixture("clap_text")

    class Tokenizer:
        def encode(self, texts):
            assert texts == ["rain", "noisy, harsh"]
            return cases["input_ids"], cases["attention_mask"]

    encoder.tokenizer = Tokenizer()
    features = encoder.encode_text(["rain", "noisy, harsh"])
    assert torch.equal(features, encoder.encode_tokens(cases["input_ids"], cases["attention_mask"]))
