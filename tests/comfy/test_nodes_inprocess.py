"""The model, VAE and helpers of the nodes inside a ComfyUI that runs in this process: numbers, batches, memory."""

import importlib
import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).parents[2]
TEXT_TOKENS, SYNC_TOKENS = 12, 40  # of the features in conftest.py


def relative(a, b):
    return float((a - b).norm() / b.norm())


def reference(nodes, path, features, steps):
    transformer = nodes.checkpoint.load_transformer(path, dtype=torch.float32)
    return nodes.sampling.sample(
        transformer, features.noise, text=features.text, negative_text=features.negative,
        visual=features.visual, sync=features.sync, steps=steps,
    )


def test_ksampler_equals_the_core_in_one_batch_per_step(run, nodes, patcher, path, features):
    sampled = run(patcher, steps=50)
    assert run.forwards == [2] * 50
    assert run.prepares == 1
    assert relative(sampled, reference(nodes, path, features, 50)) < 2e-6


def test_cached_and_uncached_runs_are_equal(run, nodes, patcher):
    bare = patcher.clone()
    bare.wrappers = {}
    assert torch.equal(run(bare), run(patcher))
    assert run.prepares == 1


def test_a_run_leaves_nothing_on_the_model(run, nodes, patcher):
    before = set(vars(patcher.model.diffusion_model))
    first = run(patcher)
    assert set(vars(patcher.model.diffusion_model)) == before
    assert nodes.cache.CACHE_KEY not in patcher.model_options["transformer_options"]
    assert torch.equal(run(patcher), first)


def test_batches_and_missing_pictures_merge(run, patcher, features):
    single = run(patcher)
    both = run(patcher, noise=torch.cat([features.noise, features.noise.flip(2)]))
    assert run.forwards == [4] * 4
    assert relative(both[:1], single) < 1e-5
    run(patcher, positive=[[features.text, {}]], negative=[[features.negative, {}]])
    assert run.forwards == [2] * 4


def test_variations_share_the_work_of_their_conditions(run, patcher, features):
    rows = {}

    def watch(name):
        return lambda module, inputs, output: rows.setdefault(name, []).append(inputs[0].shape[:-1].numel())

    network = patcher.model.diffusion_model
    parts = {"text": network.triple_blocks[0].text_cross_kv, "modulation": network.single_blocks[0].modulation}
    handles = [part.register_forward_hook(watch(name)) for name, part in parts.items()]
    run(patcher, noise=features.noise.expand(3, -1, -1).clone())
    for handle in handles:
        handle.remove()
    # Both prompts once. The sync tokens of the video, and the eight that stand for no video, at each of four steps.
    assert rows == {"text": [2 * TEXT_TOKENS], "modulation": [SYNC_TOKENS + 8] * 4}


def test_texts_of_other_lengths_run_apart_and_the_cache_keeps_both(run, patcher, features, conditions):
    # Half as long: ComfyUI's own condition for text would repeat it once and run both in one batch.
    shorter = [[features.negative[:, : TEXT_TOKENS // 2], conditions[1][0][1]]]
    run(patcher, negative=shorter)
    assert run.forwards == [1] * 8
    assert run.prepares == 2


def test_lora_is_merged_into_linear_and_convolution(comfy, run, nodes, path, patcher, features):
    lora, state = lora_and_merged(nodes, path)
    with_lora = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)[0]
    assert len(with_lora.patches) == 2
    sampled = run(with_lora, steps=10)
    merged = nodes.checkpoint.load_transformer(path, dtype=torch.float32)
    merged.load_state_dict(state)
    expected = nodes.sampling.sample(
        merged, features.noise, text=features.text, negative_text=features.negative,
        visual=features.visual, sync=features.sync, steps=10,
    )
    plain = run(patcher, steps=10)
    assert relative(sampled, expected) < 0.01  # the patched weights are stored in bf16
    assert relative(sampled, plain) > 0.1


def test_the_stock_lora_loader_does_what_our_merge_does(comfy, run, nodes, path, base, features):
    """In float32, with a LoRA from our training code on every layer; B is filled as training would."""
    import nodes as stock
    from safetensors.torch import save_file

    whole = {key: value.float() for key, value in nodes.checkpoint.read_state_dict(path)[0].items()}
    exact, generator = base / "models" / "foley" / "exact.safetensors", torch.Generator().manual_seed(5)
    for folder in ("foley", "loras"):
        (base / "models" / folder).mkdir(exist_ok=True)
    save_file(whole, exact)
    trained = nodes.checkpoint.load_transformer(exact)
    parameters = nodes.training.add_lora(trained, "all", rank=4, alpha=3.0, rslora=True, generator=generator)
    for name, parameter in parameters.items():
        if name.endswith("lora_B"):
            parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    lora = nodes.training.lora_state_dict(trained)
    save_file(lora, base / "models" / "loras" / "ours.safetensors")
    patcher = nodes.loading.load_foley_model(str(exact))
    (patched,) = stock.LoraLoaderModelOnly().load_lora_model_only(patcher, "ours.safetensors", 0.7)
    assert len(patched.patches) == len(parameters) // 2

    merged = nodes.checkpoint.load_transformer(exact)
    nodes.lora.merge(merged, lora, 0.7)
    plain, sampled = run(patcher), run(patched)
    expected = nodes.sampling.sample(
        merged, features.noise, text=features.text, negative_text=features.negative,
        visual=features.visual, sync=features.sync, steps=4,
    )
    assert patched.model.diffusion_model.dtype == torch.float32
    assert relative(sampled, expected) < 1e-5
    assert relative(sampled, plain) > 0.05
    # Each weight on its own, with the patches applied as they are when sampling.
    with torch.inference_mode():
        patched.patch_model()
        state = patched.model.diffusion_model.state_dict()
        for key, value in merged.state_dict().items():
            torch.testing.assert_close(state[key], value, atol=1e-5, rtol=1e-5)
        patched.unpatch_model()


def test_lora_hooks_go_past_the_cache(comfy, run, nodes, path, patcher, conditions):
    import comfy.hooks

    lora, _ = lora_and_merged(nodes, path)
    patched = run(comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)[0])
    hook = comfy.hooks.create_hook_lora(lora, 1.0, 0.0)
    hooked = [comfy.hooks.set_hooks_for_conditioning(conditioning, hook) for conditioning in conditions]
    assert torch.equal(run(patcher, *hooked), patched)
    assert run.prepares == 4


def lora_and_merged(nodes, path):
    """A LoRA on text keys (which are prepared once) and on a convolution, and the state dict it amounts to."""
    generator = torch.Generator().manual_seed(2)
    state = nodes.checkpoint.load_transformer(path, dtype=torch.float32).state_dict()
    lora = {}
    for key in ("triple_blocks.0.text_cross_kv", "single_blocks.1.linear1"):
        rows, *columns = state[f"{key}.weight"].shape
        up = 0.2 * torch.randn(rows, 4, generator=generator)
        down = torch.randn(4, *columns, generator=generator)
        lora[f"diffusion_model.{key}.lora_A.weight"] = down
        lora[f"diffusion_model.{key}.lora_B.weight"] = up.reshape(rows, 4, *[1] * (len(columns) - 1))
        state[f"{key}.weight"] = state[f"{key}.weight"] + (up @ down.flatten(1)).reshape(rows, *columns)
    return lora, state


def test_a_partial_load_changes_nothing(comfy, run, nodes, path, patcher, monkeypatch):
    partial = nodes.loading.load_foley_model(path)
    with torch.inference_mode():
        partial.load(torch.device("cpu"), lowvram_model_memory=int(0.4 * partial.model_size()))
    offloaded = [m for m in partial.model.modules() if hasattr(m, "prev_comfy_cast_weights")]
    assert partial.model.model_lowvram and len(offloaded) > 10
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *args, **kwargs: None)
    result = run(partial)
    monkeypatch.undo()
    assert torch.equal(result, run(patcher))


@pytest.mark.parametrize("choice, stored, tolerance", [
    ("default", {"torch.bfloat16"}, 0.0),
    ("bf16", {"torch.bfloat16"}, 0.0),
    ("fp16", {"torch.float16"}, 1e-5),
    ("fp8_e4m3fn", {"torch.bfloat16", "torch.float8_e4m3fn"}, 0.05),
    ("fp8_e5m2", {"torch.bfloat16", "torch.float8_e5m2"}, 0.1),
])
def test_weight_dtypes(run, nodes, path, patcher, choice, stored, tolerance):
    other = nodes.loading.load_foley_model(path, choice)
    state = other.model.diffusion_model.state_dict()
    assert {str(tensor.dtype) for tensor in state.values()} == stored
    assert state["triple_blocks.0.audio_self_q_norm.weight"].itemsize == 2
    assert relative(run(other), run(patcher)) <= tolerance


def test_an_unscaled_fp8_file_stays_as_it_is(run, nodes, path, tmp_path):
    quantized = nodes.loading.load_foley_model(path, "fp8_e4m3fn")
    torch.save(quantized.model.diffusion_model.state_dict(), tmp_path / "fp8.pth")
    loaded = nodes.loading.load_foley_model(str(tmp_path / "fp8.pth"))

    def types(patcher):
        return Counter(str(tensor.dtype) for tensor in patcher.model.diffusion_model.state_dict().values())

    assert types(loaded) == types(quantized)
    assert torch.equal(run(loaded), run(quantized))


def test_the_model_does_not_hang_on_its_file(run, nodes, path, patcher, tmp_path):
    copy = tmp_path / "model.pth"
    copy.write_bytes(Path(path).read_bytes())
    loaded = nodes.loading.load_foley_model(str(copy))
    copy.write_bytes(bytes(copy.stat().st_size))
    assert torch.equal(run(loaded), run(patcher))


def test_what_comfyui_saves_loads_again(comfy, run, nodes, patcher, tmp_path):
    comfy.sd.save_checkpoint(str(tmp_path / "saved.safetensors"), patcher)
    assert torch.equal(run(nodes.loading.load_foley_model(str(tmp_path / "saved.safetensors"))), run(patcher))


def test_nodes_may_replace_blocks_and_attention(run, patcher, features):
    plain, calls = run(patcher), []
    patched = patcher.clone()

    def pass_on(args, extra):
        calls.append(sorted(args))
        outputs = extra["original_block"](args)
        assert not torch.equal(outputs["txt"], args["txt"])  # of the last block, too, whose visual stream nothing else reads
        return outputs

    patched.set_model_patch_replace(pass_on, "dit", "double_block", 1)
    patched.set_model_patch_replace(lambda args, extra: args, "dit", "single_block", 0)
    attentions = []

    def watch(attention, *args, **kwargs):
        attentions.append(kwargs["transformer_options"]["cond_or_uncond"])
        return attention(*args, **kwargs)

    patched.model_options["transformer_options"]["optimized_attention_override"] = watch
    assert relative(run(patched, steps=1), run(patcher, steps=1)) > 1e-3
    assert calls == [["img", "transformer_options", "txt", "vec"]]
    assert attentions == [[1, 0]] * 5  # two in each of two multimodal blocks, one in the unimodal block that is left
    assert torch.equal(run(patcher), plain)


def test_wrappers_find_the_options_where_easycache_looks(comfy, run, patcher):
    from comfy.patcher_extension import WrappersMP

    seen = []

    def wrapper(executor, *args, **kwargs):
        seen.append("sigmas" in args[-1])
        return executor(*args, **kwargs)

    wrapped = patcher.clone()
    wrapped.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    run(wrapped)
    assert seen == [True] * 4


def test_a_wrapper_may_change_in_place_what_it_is_handed(run, patcher):
    def wrapped(change):
        model, strengths = patcher.clone(), iter((1.0, 0.8, 0.6, 0.4))

        def wrapper(apply_model, args):
            visual = change(args["c"]["visual"], next(strengths))
            return apply_model(args["input"], args["timestep"], **{**args["c"], "visual": visual})

        model.set_model_unet_function_wrapper(wrapper)
        return run(model)

    assert torch.equal(wrapped(torch.Tensor.mul_), wrapped(torch.mul))


def test_a_wrapper_may_take_the_halves_of_guidance_to_times_of_their_own(run, nodes, patcher, monkeypatch):
    def wrapper(apply_model, args):
        factors = torch.tensor([0.5 if half else 1.0 for half in args["cond_or_uncond"]])
        return apply_model(args["input"], args["timestep"] * factors, **args["c"])

    model = patcher.clone()
    model.set_model_unet_function_wrapper(wrapper)
    made = run(model)
    monkeypatch.setattr(nodes.model.FoleyModel, "_weights_are_constant", lambda self: False)
    assert relative(made, run(model)) < 1e-6


@pytest.mark.parametrize("change, message", [
    (dict(positive_text=torch.zeros(1, 5, 64)), "text features, made with `another node`, are 64 wide"),
    (dict(noise=torch.zeros(1, 4, 8, 8)), "audio latents \\[batch, 128, frames\\]"),
    (dict(noise=torch.zeros(1, 64, 50)), "audio latents \\[batch, 128, frames\\]"),
])
def test_what_does_not_fit_is_named(run, nodes, patcher, conditions, change, message):
    positive = [[change["positive_text"], {}]] if "positive_text" in change else conditions[0]
    with pytest.raises(nodes.errors.InputError, match=message):
        run(patcher, positive=positive, noise=change.get("noise"))


def test_the_cache_goes_by_content_and_forgets_the_oldest(nodes):
    cache, made = nodes.cache.PreparedCache(), []

    def get(value, frames=10):
        return cache.get((torch.full((2,), float(value)),), frames, lambda: made.append((value, frames)) or (value, frames))

    assert [get(1), get(1), get(2), get(1), get(1, 11)] == [(1, 10), (1, 10), (2, 10), (1, 10), (1, 11)]
    assert made == [(1, 10), (2, 10), (1, 11)]
    for value in range(3, 3 + nodes.cache.MAX_ENTRIES):
        get(value)
    assert get(1) == (1, 10) and made[-1] == (1, 10)


def test_the_cache_keeps_parts_of_entries_that_stay_and_not_of_ever_new_ones(nodes):
    cache, made, entry = nodes.cache.PreparedCache(), [], {}
    assert [cache.part(entry, "a window", lambda: made.append(1) or 5) for _ in range(2)] == [5, 5] and made == [1]
    for _ in range(3 * nodes.cache.MAX_PARTS):
        cache.part({}, "a window", dict)
    assert len(cache._parts) == nodes.cache.MAX_PARTS


def test_the_cache_goes_when_a_run_ends_badly(nodes):
    guider = SimpleNamespace(model_options={})

    def executor():
        assert isinstance(guider.model_options["transformer_options"][nodes.cache.CACHE_KEY], nodes.cache.PreparedCache)
        raise KeyboardInterrupt

    executor.class_obj = guider
    with pytest.raises(KeyboardInterrupt):
        nodes.cache.with_prepared_cache(executor)
    assert guider.model_options == {"transformer_options": {}}


@pytest.fixture(scope="module")
def vae(nodes, base, comfy):
    import small_weights

    return nodes.vae.FoleyVAE(str(base / "models" / small_weights.VAE))


def test_the_vae_has_the_layouts_of_audio_vaes(nodes, vae, base):
    import small_weights

    core = nodes.checkpoint.load_vae(base / "models" / small_weights.VAE)
    latents = torch.randn(2, 128, 30, generator=torch.Generator().manual_seed(3))
    sound = vae.decode(latents)
    assert sound.shape == (2, 30 * 960, 1) and sound.dtype == torch.float32
    torch.testing.assert_close(sound.movedim(-1, 1), core.decode(latents), atol=1e-6, rtol=0)
    torch.testing.assert_close(vae.decode_tiled(latents, tile_x=8, overlap=2), sound)
    stereo = sound.expand(-1, -1, 2)
    torch.testing.assert_close(vae.encode(stereo), core.encode(sound.movedim(-1, 1))[0], atol=1e-5, rtol=0)


def test_the_vae_tries_again_in_smaller_chunks(comfy, nodes, vae, monkeypatch):
    latents, tried = torch.randn(1, 128, 40), []
    whole, decode = vae.decode(latents), vae.first_stage_model.decode

    def short_of_memory(signal, chunk_frames, **kwargs):
        tried.append(chunk_frames)
        if chunk_frames > 20:
            raise comfy.model_management.OOM_EXCEPTION("no memory")
        return decode(signal, chunk_frames=chunk_frames, **kwargs)

    monkeypatch.setattr(vae.first_stage_model, "decode", short_of_memory)
    torch.testing.assert_close(vae.decode(latents), whole, atol=1e-5, rtol=0)
    assert tried[-1] <= 20 and len(tried) > 1

    def hopeless(*args, **kwargs):
        raise comfy.model_management.OOM_EXCEPTION("no memory")

    monkeypatch.setattr(vae.first_stage_model, "decode", hopeless)
    with pytest.raises(comfy.model_management.OOM_EXCEPTION):
        vae.decode(latents)


def test_loading_the_vae_does_not_warn_of_missing_weights(nodes, base, caplog):
    import small_weights

    with caplog.at_level(logging.WARNING):
        nodes.vae.FoleyVAE(str(base / "models" / small_weights.VAE))
    assert "VAE" not in caplog.text


def test_names_of_files_keep_their_meaning(nodes, monkeypatch, tmp_path):
    import folder_paths

    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "same.pth").write_text(place)
    (tmp_path / "two" / "z_likely.pth").write_text("")
    for place in ("one", "two"):
        monkeypatch.setitem(folder_paths.folder_names_and_paths, place, ([str(tmp_path / place)], {".pth"}))
    names = nodes.folders.model_names(("one", "two"), "likely")
    assert names == ["z_likely.pth", "same.pth", "two/same.pth"]
    assert [Path(nodes.folders.model_path(name, ("one", "two"))).read_text() for name in names] == ["", "one", "two"]
    with pytest.raises(nodes.errors.CheckpointError, match="`gone.pth` is not there"):
        nodes.folders.model_path("gone.pth", ("one", "two"))


def test_a_fresh_node_takes_a_released_file_or_else_the_small_model(nodes, monkeypatch, tmp_path):
    import folder_paths

    small, own = nodes.small.FOLDER, tmp_path / "foley"
    for place in ("text_encoders", "foley"):
        (tmp_path / place).mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, place, ([str(tmp_path / place)], {".pth", ".safetensors"}))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(nodes.small, "FOLDER", tmp_path / "weights")
    nodes.small.FOLDER.mkdir()
    for name in (*nodes.small.WEIGHTS, nodes.small.TOKENIZER):
        (nodes.small.FOLDER / name).write_text("the small one")
    for _ in range(2):  # a second time adds nothing
        nodes.folders.register_foley_folder()
    assert folder_paths.get_folder_paths("foley") == [str(own), str(nodes.small.FOLDER)]

    def first(likely, small):
        return nodes.folders.model_names(("text_encoders", "foley"), likely, small)[0]

    (tmp_path / "text_encoders" / "a_stranger.safetensors").write_text("")
    assert first("foley", nodes.small.TRANSFORMER) == nodes.small.TRANSFORMER
    assert first("128d", nodes.small.VAE) == nodes.small.VAE
    for name in ("hunyuanvideo_foley.pth", "vae_128d_48k.pth", nodes.small.CLAP):
        (own / name).write_text("the user's")
    assert first("foley", nodes.small.TRANSFORMER) == "hunyuanvideo_foley.pth"
    assert first("128d", nodes.small.VAE) == "vae_128d_48k.pth"
    assert Path(nodes.folders.model_path(nodes.small.CLAP, ("foley",))).read_text() == "the user's"
    assert nodes.folders.tokenizer_names() == []  # the small model's is found beside its CLAP and fits no other
    assert small == ROOT / "weights"


@pytest.mark.parametrize("attributes, expected", [
    ({}, (0.0, None)),
    ({"get_active_trim_window": lambda: (1.5, 0.0)}, (1.5, None)),
    ({"get_active_trim_window": lambda: (1.5, 2.0)}, (1.5, 2.0)),
    ({"_VideoFromFile__start_time": 0.25, "_VideoFromFile__duration": 0.5}, (0.25, 0.5)),
    ({"_VideoFromFile__start_time": -0.5, "_VideoFromFile__duration": 0}, (0.5, None)),
])
def test_the_trim_of_a_video_is_found_in_every_version(comfy, tmp_path, attributes, expected):
    from tests.videos import make_video

    video_source = importlib.import_module("foley_pack.nodes.video_source")
    clip = str(make_video(tmp_path / "clip.mp4", frames=25, rate=25))
    file = video_source.file_of(SimpleNamespace(get_stream_source=lambda: clip, **attributes))
    assert (file.start, file.duration) == pytest.approx(expected)
    assert file.is_trimmed == (expected != (0.0, None))
