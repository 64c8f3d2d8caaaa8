"""What stays in memory: nothing of a generation, and no encoder that sampling needs the room of.

`FOLEY_GENERATIONS=50` makes the run over mixed generations as long as that.
"""

import gc
import importlib
import os
from dataclasses import asdict, replace
from itertools import accumulate

import pytest
import torch
from torch._subclasses import FakeTensor

GENERATIONS = int(os.environ.get("FOLEY_GENERATIONS", "10"))
WARM = 5  # after so many everything has been used once


def live_tensors() -> tuple[int, int]:
    """How many tensors there are in this process, and their bytes; those that the compiler only thinks of do not count."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    real = [tensor for tensor in tensors if not issubclass(type(tensor), FakeTensor)]
    return len(real), sum(tensor.nbytes for tensor in real if not tensor.is_meta)


def test_mixed_generations_leave_nothing_behind(run, nodes, patcher):
    keys, generator = nodes.model, torch.Generator().manual_seed(0)
    guided = nodes.guidance.guide_within(patcher, (0.8, 0.2))
    counts = []
    for index in range(GENERATIONS):
        frames, batch, text_tokens = (50, 100, 200, 75)[index % 4], 1 + index % 3, 5 + index % 7
        timing = nodes.model.ClipTiming.from_latent_frames(frames)

        def normal(tokens):
            return torch.randn(1, tokens, 128, generator=generator)

        lengths = {keys.LENGTHS_KEY: (timing.visual_tokens, timing.sync_tokens)}
        seen = {keys.VISUAL_KEY: normal(timing.visual_tokens), keys.SYNC_KEY: normal(timing.sync_tokens)}
        run(
            (patcher, guided)[index % 2], [[normal(text_tokens), {**lengths, **seen}]], [[normal(text_tokens), lengths]],
            noise=torch.randn(batch, 128, frames, generator=generator), steps=2,
        )
        del seen
        counts.append(live_tensors())
    # What tests before this one left may still go; nothing may come.
    tensors, sizes = zip(*counts[WARM:])
    assert max(tensors) == tensors[0] and max(sizes) == sizes[0], counts


def peak_of(step) -> int:
    """Most bytes that tensors took at once while `step` ran, above those there before; no seconds, no other processes."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        step()
    changes = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(changes, key=lambda event: event.start_ns())))


def compute_as_on_a_gpu(monkeypatch):
    """Convolutions as matrix products."""
    for name in ("frame_conv", "layers"):
        module = importlib.import_module(f"foley_pack.hunyuan_foley_core.model.{name}")
        monkeypatch.setattr(module, "is_product", lambda x: True)


@pytest.mark.parametrize("on_gpu", [False, True])
@pytest.mark.parametrize("dtype, batch", [(torch.bfloat16, 2), (torch.bfloat16, 8), (torch.float32, 2)])
def test_the_estimate_that_comfyui_plans_with_covers_a_step(comfy, nodes, monkeypatch, dtype, batch, on_gpu):
    """One block of each kind at the released width: activations do not add up over blocks. Convolutions' workspaces are
    no tensors; the estimate has room for them."""
    from benchmarks.sizes import XXL

    sizes = replace(XXL, num_multimodal_blocks=1, num_unimodal_blocks=1)
    config = nodes.model.FoleyModelConfig(asdict(sizes))
    config.set_inference_dtype(dtype, None)
    model = config.get_model({})
    weights = {name: torch.full(tensor.shape, 0.01, dtype=dtype) for name, tensor in model.diffusion_model.state_dict().items()}
    model.load_model_weights(weights)
    timing = nodes.model.ClipTiming.from_latent_frames(400)
    shapes = (77, sizes.text_dim), (timing.visual_tokens, sizes.visual_dim), (timing.sync_tokens, sizes.sync_dim)
    features = [torch.randn(batch, *shape).to(dtype) for shape in shapes]
    latents, times = torch.randn(batch, sizes.latent_channels, 400).to(dtype), torch.full((batch,), 500.0)
    # As on a GPU: without attention that needs no memory of its own ComfyUI reckons with much more.
    monkeypatch.setattr(comfy.model_management, "xformers_enabled", lambda: True)
    if on_gpu:
        compute_as_on_a_gpu(monkeypatch)
    with torch.inference_mode():
        prepared = model.diffusion_model.prepare(*features, 400).of_samples(list(range(batch)))
        peak = peak_of(lambda: model.diffusion_model.denoise(latents, times, prepared))
    estimate_over_peak = model.memory_required([batch, sizes.latent_channels, 400]) / peak
    # How much a convolution of the CPU wants beside its result hangs on the machine.
    assert 1.1 <= estimate_over_peak and (not on_gpu or estimate_over_peak <= 2)


def test_encoders_make_room_for_sampling(comfy, nodes, base):
    """They come to the device in full and with the memory they work in, and ComfyUI may take them off it again."""
    import small_weights

    files = [base / "models" / name for name in (small_weights.SIGLIP2, small_weights.SYNCHFORMER, small_weights.CLAP)]
    encoders = nodes.encoders.load_foley_encoders(*map(str, files), str(base / "models" / small_weights.TOKENIZER))
    *_, device = encoders.load_for_video()
    encoders.load_for_text()
    loaded = comfy.model_management.current_loaded_models
    ours = {encoders.siglip2, encoders.synchformer, encoders.clap}
    assert ours <= {entry.model for entry in loaded}
    comfy.model_management.free_memory(1e30, device)
    assert not ours & {entry.model for entry in loaded}
    assert encoders.load_for_text()[0] is encoders.clap.model  # and back again
