"""ComfyUI's TorchCompileModel on our MODEL, with a backend that counts graphs instead of making code."""

import cProfile
import pstats
from types import FunctionType

import pytest
import torch

from tests.core.parity import relative_error

KINDS = 2  # multimodal block, unimodal block


@pytest.fixture(scope="module", autouse=True)
def threads_of_autograd():
    """Starts what autograd computes with before the compiler pretends that there is a GPU.

    Otherwise it gets a thread for that GPU, and tests that come later and fork could not train in their children.
    """
    torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture
def dynamo(comfy, nodes, monkeypatch):
    """The compiler, which knows nothing yet."""
    import torch._dynamo as dynamo
    from comfy.ldm.modules.attention import attention_pytorch

    # The attention that ComfyUI prefers on a CPU asks the system for free memory, which no compiler can follow.
    monkeypatch.setattr(nodes.model, "optimized_attention", attention_pytorch)
    dynamo.reset()
    dynamo.utils.counters.clear()
    yield dynamo
    dynamo.reset()


@pytest.fixture
def compiled(dynamo, patcher):
    """The model behind the node's own function; `compiled.graphs` lists what was compiled."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph

    model = patcher.clone()
    set_torch_compile_wrapper(model=model, backend=backend)
    model.graphs = graphs
    yield model
    assert not dynamo.utils.counters["graph_break"]


@pytest.fixture
def sample(comfy, nodes):
    """`sample(model, frames, batch, text_tokens, cfg)`: a run with features of its own, the same for the same sizes."""
    keys = nodes.model

    def sample(model, frames, batch=1, text_tokens=12, cfg=4.5):
        generator, counts = torch.Generator().manual_seed(0), keys.ClipTiming.from_latent_frames(frames)

        def normal(tokens):
            return torch.randn(1, tokens, 128, generator=generator)

        lengths = {keys.LENGTHS_KEY: (counts.visual_tokens, counts.sync_tokens)}
        seen = {keys.VISUAL_KEY: normal(counts.visual_tokens), keys.SYNC_KEY: normal(counts.sync_tokens)}
        noise = torch.randn(batch, 128, frames, generator=generator)
        with torch.inference_mode():
            return comfy.sample.sample(
                model, noise, 2, cfg, "euler", "simple", [[normal(text_tokens), {**lengths, **seen}]],
                [[normal(text_tokens), lengths]], torch.zeros_like(noise), seed=1, disable_pbar=True,
            )

    return sample


def test_each_kind_of_block_is_compiled_once_for_all_lengths_and_batches(compiled, sample, patcher):
    for sizes in (dict(frames=200), dict(frames=600, batch=4, text_tokens=20), dict(frames=107, batch=2, text_tokens=9)):
        result = sample(compiled, **sizes)
        assert len(compiled.graphs) == KINDS, sizes
        assert relative_error(result, sample(patcher, **sizes)) < 1e-6
    # Without guidance one sound is a batch of one, which is a compilation of its own.
    sample(compiled, frames=200, cfg=1.0)
    sample(compiled, frames=400, text_tokens=13, cfg=1.0)
    assert len(compiled.graphs) == 2 * KINDS


def test_replaced_blocks_do_not_break_it(compiled, sample, patcher):
    def replace(model):
        model = model.clone()
        model.set_model_patch_replace(lambda args, extra: extra["original_block"](args), "dit", "double_block", 1)
        model.set_model_patch_replace(lambda args, extra: args, "dit", "single_block", 0)
        return model

    replaced = sample(replace(compiled), frames=100)
    assert relative_error(replaced, sample(replace(patcher), frames=100)) < 1e-6
    assert len(compiled.graphs) == KINDS


@pytest.mark.parametrize("how", ["forward", "hook"])
def test_what_other_nodes_put_into_a_block_works_with_it(compiled, sample, patcher, how):
    def skip(audio, *others):
        return audio

    block = patcher.model.diffusion_model.single_blocks[0]
    models = compiled.clone(), patcher.clone()
    if how == "forward":
        for model in models:
            model.add_object_patch("diffusion_model.single_blocks.0.forward", skip)
    else:
        hook = block.register_forward_hook(lambda block, inputs, output: skip(*inputs))
    made, wanted = (sample(model, frames=100) for model in models)
    if how == "hook":
        hook.remove()
    assert relative_error(made, wanted) < 1e-6 < 0.01 < relative_error(sample(patcher, frames=100), wanted)


def test_it_goes_on_compiling_where_the_compiler_would_give_up(compiled, sample):
    """Each model, attention and batch of one needs versions of its own; torch makes eight of a function."""
    def attention(function, *args, **kwargs):
        return function(*args, **kwargs)

    for number in range(1, 6):
        model = compiled.clone()
        another = FunctionType(attention.__code__.replace(co_name=f"attention{number}"), globals())
        model.model_options["transformer_options"]["optimized_attention_override"] = another
        for cfg in (4.5, 1.0):
            sample(model, frames=100, cfg=cfg)
        assert len(compiled.graphs) == 2 * KINDS * number


@pytest.mark.parametrize("options", [dict(fullgraph=True), dict(dynamic=True), dict(dynamic=False)])
def test_other_nodes_may_compile_it_their_way(dynamo, sample, patcher, options):
    """As packs do that offer more of `torch.compile` than ComfyUI's node."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = patcher.clone()
    set_torch_compile_wrapper(model=model, backend="eager", **options)
    result = sample(model, frames=100)
    assert dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert relative_error(result, sample(patcher, frames=100)) < 1e-4


def test_the_compiler_looks_at_nothing_but_blocks(compiled, sample):
    """Each look at a function takes longer than a kernel on a GPU, and a step has hundreds of functions."""
    sample(compiled, frames=100)
    profile = cProfile.Profile()
    profile.runcall(sample, compiled, frames=100)
    calls = {where: count for where, (_, count, *_) in pstats.Stats(profile).stats.items()}
    looks = [count for (file, _, name), count in calls.items() if file.endswith("convert_frame.py") and name == "__call__"]
    assert max(looks) <= 4  # of two steps
