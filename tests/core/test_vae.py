"""DAC-VAE against the released function, and chunks against the whole."""

import json
from math import ceil

import pytest
import torch
from safetensors.torch import load_file

from hunyuan_foley_core.config import DACVAEConfig
from hunyuan_foley_core.errors import CheckpointError, InputError
from hunyuan_foley_core.vae import DACVAE, fold_weight_norm
from hunyuan_foley_core.vae.chunking import Context
from hunyuan_foley_core.vae.dac import LIVE_ACTIVATIONS, Snake

from .parity import MANIFESTS, cases, relative_error, weights

WEIGHTS, CASES = load_file(weights("dac_vae")), cases("dac_vae")
HOP = 960
FEW = 6  # frames in a chunk here: fewer than the context, so that windows meet both true ends and neither
LENGTHS = [1, 5, 6, 7, 13, 30, 47]


class Cancelled(Exception):
    pass


def build(tensors=WEIGHTS, dtype=None):
    with torch.device("meta"):
        vae = DACVAE(DACVAEConfig.from_state_dict(tensors))
    folded = {key: tensor.to(dtype or tensor.dtype) for key, tensor in fold_weight_norm(tensors).items()}
    vae.load_state_dict(folded, strict=True, assign=True)
    return vae.requires_grad_(False)


@pytest.fixture(scope="module")
def vae():
    return build()


@pytest.fixture(scope="module")
def vae64():
    return build(dtype=torch.float64)


def noise(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# Parity with the released code. Its own float32 rounding is 3e-6 on these weights (measured against float64).


@pytest.mark.parametrize("chunk_frames", [None, 7, 250])
def test_encode_parity(vae, chunk_frames):
    mean, logvar = vae.encode(CASES["wave"], chunk_frames=chunk_frames)
    assert relative_error(mean, CASES["posterior.mean"]) < 2e-6
    assert relative_error(logvar, CASES["posterior.logvar"]) < 2e-6


@pytest.mark.parametrize("chunk_frames", [None, 7, 250])
@pytest.mark.parametrize("given, expected", [("latent", "decoded_latent"), ("posterior.mean", "decoded_mean")])
def test_decode_parity(vae, given, expected, chunk_frames):
    assert relative_error(vae.decode(CASES[given], chunk_frames=chunk_frames), CASES[expected]) < 6e-6


def test_logvar_is_clamped():
    vae = build()
    channels = vae.config.latent_channels
    vae.quant_conv.bias[channels : channels + 2] = torch.tensor([1e4, -1e4])
    _, logvar = vae.encode(CASES["wave"])
    assert logvar[:, 0].unique().tolist() == [20.0] and logvar[:, 1].unique().tolist() == [-30.0]


# Chunks


@pytest.mark.parametrize("frames", LENGTHS)
def test_decode_in_chunks_equals_the_whole(vae, vae64, frames):
    latents = noise(2, vae.config.latent_channels, frames)
    assert relative_error(vae.decode(latents, chunk_frames=FEW), vae.synthesise(latents)) < 1e-5
    exact = vae64.decode(latents, chunk_frames=FEW)
    assert exact.shape == (2, 1, frames * HOP)
    assert relative_error(exact, vae64.synthesise(latents.double())) < 1e-12


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize("cut", [0, 1, HOP - 1])
def test_encode_in_chunks_equals_the_whole(vae64, frames, cut):
    waveform = 0.3 * noise(2, 1, frames * HOP - cut, dtype=torch.float64)
    padded = torch.nn.functional.pad(waveform, (0, ceil(waveform.shape[-1] / HOP) * HOP - waveform.shape[-1]))
    for found, expected in zip(vae64.encode(waveform, chunk_frames=FEW), vae64.posterior(padded)):
        assert found.shape == (2, vae64.config.latent_channels, frames)
        assert relative_error(found, expected) < 1e-12


def test_encode_in_chunks_equals_the_whole_in_float32(vae):
    waveform = 0.3 * noise(1, 1, 40 * HOP)
    for found, expected in zip(vae.encode(waveform, chunk_frames=FEW), vae.posterior(waveform)):
        assert relative_error(found, expected) < 1e-5


@pytest.mark.parametrize("short", [(1, 0), (0, 1)])
@pytest.mark.parametrize("direction", ["encode", "decode"])
def test_one_frame_less_context_changes_the_result(direction, short):
    vae = build(dtype=torch.float64)
    if direction == "decode":
        given, run = noise(1, vae.config.latent_channels, 40), lambda **options: vae.decode(given, **options)
    else:
        given, run = 0.3 * noise(1, 1, 40 * HOP), lambda **options: vae.encode(given, **options)[0]
    whole, exact = run(chunk_frames=None), run(chunk_frames=FEW)
    context = getattr(vae, f"{direction}_context")
    setattr(vae, f"{direction}_context", Context(context.left - short[0], context.right - short[1]))
    assert relative_error(exact, whole) < 1e-12 < 1e-11 < relative_error(run(chunk_frames=FEW), whole)


def test_released_rates_see_this_far(vae):
    assert (vae.encode_context, vae.decode_context) == (Context(8, 8), Context(10, 10))


def largest_tensor(vae, run):
    """Values of the largest output of any layer while `run` runs."""
    sizes = []
    leaves = [module for module in vae.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(lambda module, given, out: sizes.append(out.numel())) for leaf in leaves]
    run()
    for hook in hooks:
        hook.remove()
    return max(sizes)


def test_memory_does_not_grow_with_length_or_batch(vae):
    channels = vae.config.latent_channels
    decoded = [
        largest_tensor(vae, lambda: vae.decode(noise(batch, channels, frames), chunk_frames=FEW))
        for batch, frames in [(1, 60), (3, 60), (1, 240)]
    ]
    encoded = [
        largest_tensor(vae, lambda: vae.encode(noise(batch, 1, frames * HOP), chunk_frames=FEW))
        for batch, frames in [(1, 60), (3, 60), (1, 240)]
    ]
    assert len(set(decoded)) == len(set(encoded)) == 1
    # The estimates count a fixed number of these, plus the largest weight.
    decoder, encoder = (max(p.numel() for p in net.parameters()) for net in (vae.decoder, vae.encoder))
    assert vae.decode_memory(240, 4, chunk_frames=FEW) == 4 * (LIVE_ACTIVATIONS * decoded[0] + decoder)
    assert vae.encode_memory(240 * HOP, 4, chunk_frames=FEW) == 4 * (LIVE_ACTIVATIONS * encoded[0] + encoder)


def test_memory_estimates_are_flat_beyond_a_chunk(vae):
    assert vae.decode_memory(50, 4) < vae.decode_memory(1_000, 4) == vae.decode_memory(3_000, 4)
    assert vae.encode_memory(50 * HOP, 2) < vae.encode_memory(1_000 * HOP, 2) == vae.encode_memory(3_000 * HOP, 2)
    assert vae.decode_memory(3_000, 4) == 2 * vae.decode_memory(3_000, 2)
    assert vae.decode_memory(3_000, 4, chunk_frames=None) > 5 * vae.decode_memory(3_000, 4)


# Weights


def test_every_released_key_is_consumed():
    manifest = json.loads((MANIFESTS / "vae_128d_48k.json").read_text())
    tensors = {key: torch.empty(shape, device="meta") for key, shape in manifest.items()}
    config = DACVAEConfig.from_state_dict(tensors)
    assert (config.hop, config.latent_channels, config.encoder_rates) == (HOP, 128, (2, 3, 4, 5, 8))
    vae = DACVAE(config, device="meta")
    vae.load_state_dict(fold_weight_norm(tensors), strict=True, assign=True)
    assert 371e6 < sum(parameter.numel() for parameter in vae.parameters()) < 372e6


def test_folding_leaves_folded_tensors_and_its_input_alone():
    before = set(WEIGHTS)
    once = fold_weight_norm(WEIGHTS)
    again = fold_weight_norm(once)
    assert set(WEIGHTS) == before and again.keys() == once.keys()
    assert all(again[key] is once[key] for key in once)
    assert "encoder.block.0.weight" in once and not any("weight_" in key for key in once)


def test_folding_happens_in_float32():
    half = {key: tensor.half() for key, tensor in WEIGHTS.items()}
    key = "decoder.model.1.block.1"  # transposed: normed over its input channels
    folded = fold_weight_norm(half)[f"{key}.weight"]
    v, g = half[f"{key}.weight_v"].double(), half[f"{key}.weight_g"].double()
    expected = g * v / v.flatten(1).norm(dim=1)[:, None, None]
    assert folded.dtype == torch.float32 and relative_error(folded, expected) < 1e-6
    kept = fold_weight_norm(half, keep_dtype=True)[f"{key}.weight"]
    assert torch.equal(kept, folded.half())


@pytest.mark.parametrize("lost", ["weight_g", "weight_v"])
def test_half_a_weight_norm_pair_is_refused(lost):
    broken = {key: tensor for key, tensor in WEIGHTS.items() if key != f"decoder.model.0.{lost}"}
    with pytest.raises(CheckpointError, match=f"decoder.model.0.{lost}"):
        fold_weight_norm(broken)


def test_weight_norm_lengths_of_the_wrong_shape_are_refused():
    broken = WEIGHTS | {"decoder.model.0.weight_g": torch.ones(3, 1, 1)}
    with pytest.raises(CheckpointError, match="decoder.model.0.weight_v"):
        fold_weight_norm(broken)


# Types and places


def test_half_precision_gives_float32_results_near_the_exact_ones(vae):
    latents = CASES["latent"]
    decoded = vae.decode(latents, dtype=torch.float16)
    assert decoded.dtype == torch.float32 and relative_error(decoded, vae.decode(latents)) < 0.05
    mean, logvar = build(dtype=torch.bfloat16).encode(CASES["wave"])
    assert mean.dtype == logvar.dtype == torch.float32 and relative_error(mean, CASES["posterior.mean"]) < 0.1


def test_fp8_storage_computes_in_float32(vae):
    stored = build(dtype=torch.float8_e4m3fn)
    widened = build()
    widened.load_state_dict({key: tensor.float() for key, tensor in stored.state_dict().items()})
    latents = noise(1, vae.config.latent_channels, 9)
    assert torch.equal(stored.decode(latents), widened.decode(latents))


def test_results_gather_where_asked(vae):
    assert vae.decode(CASES["latent"], output_device="meta").device.type == "meta"
    assert vae.decode(CASES["latent"]).device == CASES["latent"].device


def test_cancelling_stops_at_the_next_chunk(vae):
    reports = []

    def cancel(done, total):
        reports.append((done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        vae.decode(noise(1, vae.config.latent_channels, 30), chunk_frames=FEW, callback=cancel)
    assert reports == [(1, 5), (2, 5)]


# Wrong inputs


@pytest.mark.parametrize("shape", [(48_000,), (1, 48_000), (1, 2, 48_000), (1, 1, 0), (0, 1, 960), ()])
def test_encode_refuses_other_shapes(vae, shape):
    with pytest.raises(InputError, match=r"mono, of shape \[batch, 1, samples\]"):
        vae.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(16, 5), (1, 15, 5), (1, 5, 16), (1, 16, 0), (0, 16, 5), (1, 16, 5, 1)])
def test_decode_refuses_other_shapes(vae, shape):
    with pytest.raises(InputError, match=r"latents of shape \[batch, 16, frames\]"):
        vae.decode(torch.zeros(shape))


def test_whole_numbers_are_refused(vae):
    with pytest.raises(InputError, match="int16"):
        vae.encode(torch.zeros(1, 1, 960, dtype=torch.int16))


def test_latents_that_are_not_finite_are_counted_and_blamed(vae):
    latents = noise(1, vae.config.latent_channels, 4)
    latents[0, 0, :3] = torch.nan
    latents[0, 1, 0] = -torch.inf
    with pytest.raises(InputError, match="3 NaN and 1 infinite values among 64.*sampler produced them"):
        vae.decode(latents)
    with pytest.raises(InputError, match="960 NaN and 0 infinite"):
        vae.encode(torch.full((1, 1, 960), torch.nan))


# Training


def test_snake_is_differentiable_and_exact():
    x, snake = noise(2, 3, 5, dtype=torch.float64).requires_grad_(), Snake(3, dtype=torch.float64)
    snake.alpha.data = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)[None, :, None]
    torch.testing.assert_close(snake(x), x + torch.sin(snake.alpha * x) ** 2 / (snake.alpha + 1e-9))

    def run(x, alpha):
        return torch.func.functional_call(snake, {"alpha": alpha}, x)

    assert torch.autograd.gradcheck(run, (x, snake.alpha))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_snake_with_alpha_zero_is_the_identity(dtype):
    snake, x = Snake(3, dtype=dtype), noise(1, 3, 8, dtype=dtype)
    snake.alpha.data.zero_()
    assert torch.equal(snake(x), x)


def test_gradients_reach_every_weight():
    vae = build().requires_grad_(True)
    mean, logvar = vae.posterior(0.3 * noise(2, 1, 4 * HOP))
    (vae.synthesise(mean).square().mean() + logvar.mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in vae.parameters())
