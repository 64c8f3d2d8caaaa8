import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from hunyuan_foley_core import checkpoint
from hunyuan_foley_core.checkpoint import (
    CLAP, SIGLIP2, SYNCHFORMER, TRANSFORMER, VAE, build, load_clap, load_siglip2, load_synchformer, load_transformer, load_vae, read_state_dict,
)
from hunyuan_foley_core.convert import convert
from hunyuan_foley_core.errors import CheckpointError, UnsafeFileError
from hunyuan_foley_core.vae.weight_norm import fold_weight_norm

from .parity import MANIFESTS, weights

LOADERS = {
    "mmdit": load_transformer, "dac_vae": load_vae, "synchformer_visual": load_synchformer, "siglip2_vision": load_siglip2,
    "clap_text": load_clap,
}
RELEASED = {
    "hunyuanvideo_foley_xxl": TRANSFORMER, "hunyuanvideo_foley_xl": TRANSFORMER, "vae_128d_48k": VAE,
    "synchformer_state_dict": SYNCHFORMER, "siglip2_base_patch16_512_vision": SIGLIP2, "larger_clap_general_text": CLAP,
}


def manifest(name: str) -> dict[str, torch.Tensor]:
    shapes = json.loads((MANIFESTS / f"{name}.json").read_text())
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize("name", RELEASED)
def test_every_released_key_is_used_or_named(name):
    component, tensors = RELEASED[name], manifest(name)
    module = build(component, tensors, {}, device="meta")
    used = sum(p.numel() for p in module.parameters())
    left = {key: value for key, value in tensors.items() if key.startswith(component.unused)} if component.unused else {}
    weight_norm = sum(value.numel() for key, value in tensors.items() if key.endswith("weight_g"))
    assert used == sum(t.numel() for t in tensors.values()) - sum(t.numel() for t in left.values()) - weight_norm


def test_the_released_sizes_are_read_from_the_tensors():
    xxl = build(TRANSFORMER, manifest("hunyuanvideo_foley_xxl"), {}, device="meta")
    xl = build(TRANSFORMER, manifest("hunyuanvideo_foley_xl"), {}, device="meta")
    assert [xxl.config.num_multimodal_blocks, xxl.config.num_unimodal_blocks, xxl.config.num_heads] == [18, 36, 12]
    assert [xl.config.num_multimodal_blocks, xl.config.num_unimodal_blocks, xl.config.num_heads] == [12, 24, 11]
    assert round(sum(p.numel() for p in xxl.parameters()) / 1e9, 3) == 5.134
    assert round(sum(p.numel() for p in xl.parameters()) / 1e9, 3) == 2.913
    vae = build(VAE, manifest("vae_128d_48k"), {}, device="meta")
    assert (vae.config.hop, vae.config.latent_channels) == (960, 128)


# A plain torch file cannot tell the head count of the tiny encoders, which are not 64 wide per head.
@pytest.mark.parametrize("name, nesting", [
    *((name, nesting) for name in LOADERS for nesting in ("state_dict", "model")), ("mmdit", "plain"), ("dac_vae", "plain"),
])
def test_torch_files_load_like_safetensors(tmp_path, name, nesting):
    tensors, config = read_state_dict(weights(name))
    saved = tensors if nesting == "plain" else {nesting: tensors, "metadata": {"kwargs": config}, "epoch": 3}
    torch.save(saved, tmp_path / "weights.pth")
    expected = LOADERS[name](weights(name)).state_dict()
    result = LOADERS[name](tmp_path / "weights.pth").state_dict()
    assert expected.keys() == result.keys() and all(torch.equal(expected[k], result[k]) for k in expected)


@pytest.mark.parametrize("name", checkpoint.AVERAGED)
def test_averaged_weights_load_where_a_file_has_no_others(tmp_path, name):
    tensors = load_file(weights("mmdit"))
    others = {key: torch.zeros_like(value) for key, value in tensors.items()}
    torch.save({"step": torch.tensor(7), "optimizer": {"state": {0: torch.zeros(2)}}, name: tensors}, tmp_path / "averaged.pth")
    torch.save({name: {"decay": 0.999, "module": tensors}}, tmp_path / "nested.pth")
    torch.save({"model": tensors, name: others, "step": torch.tensor(7)}, tmp_path / "both.pth")
    torch.save({**tensors, name: others}, tmp_path / "plain.pth")
    for path in tmp_path.iterdir():
        loaded = load_transformer(path).state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in tensors.items()), path
    torch.save({name: tensors, "ema_model" if name == "ema" else "ema": others}, tmp_path / "two.pth")
    with pytest.raises(CheckpointError, match="two.pth holds averaged weights under ema and .*file of their own"):
        load_transformer(tmp_path / "two.pth")


@pytest.mark.parametrize("name", checkpoint.NESTINGS)
def test_a_plain_state_dict_loads_whatever_lies_beside_it(tmp_path, name):
    tensors = load_file(weights("mmdit"))
    torch.save({**tensors, name: {"scale": torch.ones(1)}}, tmp_path / "plain.pth")
    assert set(checkpoint.read_state_dict(tmp_path / "plain.pth")[0]) == set(tensors)


@pytest.mark.parametrize("name", ["scripted.pth", "scripted.safetensors"])
def test_a_torchscript_archive_is_named_before_torch_sees_it(tmp_path, name, monkeypatch):
    torch.jit.trace(torch.nn.ReLU(), torch.zeros(1)).save(tmp_path / name)
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(UnsafeFileError, match=f"{name} is a TorchScript archive.*state dict"):
        load_transformer(tmp_path / name)


def test_old_torch_files_load(tmp_path):
    torch.save(load_file(weights("mmdit")), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    load_transformer(tmp_path / "old.pth")


def test_keys_that_are_numbers_are_left_out(tmp_path):
    torch.save({1: torch.zeros(2), **load_file(weights("mmdit"))}, tmp_path / "numbered.pth")
    load_transformer(tmp_path / "numbered.pth")


@pytest.mark.parametrize("name, root", [("siglip2_vision", "vision_model."), ("clap_text", "text_model."), ("synchformer_visual", "vfeat_extractor.")])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_parts_load_with_other_prefixes(tmp_path, name, root, prefix):
    tensors, config = read_state_dict(weights(name))
    part = {prefix + key.removeprefix(root): value for key, value in tensors.items() if key.startswith(root)}
    save_file(part, tmp_path / "part.safetensors", {"config": json.dumps(config)})
    expected = LOADERS[name](weights(name)).state_dict()
    result = LOADERS[name](tmp_path / "part.safetensors").state_dict()
    assert all(torch.equal(expected[key], result[key]) for key in expected)


def test_whole_hugging_face_files_load(tmp_path):
    for name, others in {
        "siglip2_vision": ["text_model.embeddings.token_embedding.weight", "logit_scale", "logit_bias"],
        "clap_text": ["audio_model.audio_encoder.norm.weight", "audio_projection.linear1.weight", "logit_scale_a", "logit_scale_t"],
    }.items():
        tensors, config = read_state_dict(weights(name))
        save_file(tensors | {key: torch.zeros(3) for key in others}, tmp_path / "model.safetensors", {"config": json.dumps(config)})
        LOADERS[name](tmp_path / "model.safetensors")


def test_what_model_save_writes_loads(tmp_path):
    save_file({f"model.diffusion_model.{k}": v for k, v in load_file(weights("mmdit")).items()}, tmp_path / "saved.safetensors")
    load_transformer(tmp_path / "saved.safetensors")


def test_half_precision_vae_is_folded_in_float32(tmp_path):
    tensors, config = read_state_dict(weights("dac_vae"))
    half = {key: value.half() for key, value in tensors.items()}
    save_file(half, tmp_path / "half.safetensors", {"config": json.dumps(config)})
    weight = load_vae(tmp_path / "half.safetensors").decoder.model[0].weight
    v, g = half["decoder.model.0.weight_v"].float(), half["decoder.model.0.weight_g"].float()
    assert weight.dtype == torch.float32 and torch.equal(weight, torch._weight_norm(v, g, 0))


class RunsCode:
    def __reduce__(self):
        return (open, ("/nonexistent/pwned", "w"))


def damaged_files(folder):
    whole = weights("mmdit").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[:-1000])
    (folder / "header.safetensors").write_bytes(whole[:100])
    (folder / "text.safetensors").write_text("this is not a checkpoint")
    (folder / "text.pth").write_text("this is not a checkpoint")
    (folder / "empty.pth").write_bytes(b"")
    torch.save(load_file(weights("mmdit")), folder / "cut.pth")
    (folder / "cut.pth").write_bytes((folder / "cut.pth").read_bytes()[:50_000])
    (folder / "code.pth").write_bytes(pickle.dumps({"state_dict": RunsCode()}))
    torch.save({"state_dict": RunsCode()}, folder / "code_zip.pth")
    torch.save({"lr": 1e-4}, folder / "nothing.pth")
    torch.save([1, 2, 3], folder / "list.pth")
    return sorted(path.name for path in folder.iterdir())


def test_damaged_and_unsafe_files_get_one_clear_paragraph(tmp_path):
    for name in damaged_files(tmp_path) + ["missing.safetensors"]:
        with pytest.raises(CheckpointError) as caught:
            load_transformer(tmp_path / name)
        message = str(caught.value)
        assert name in message and "\n" not in message and len(message) < 700, message


def test_code_is_named_as_the_reason(tmp_path):
    damaged_files(tmp_path)
    for name in ("code.pth", "code_zip.pth"):
        with pytest.raises(CheckpointError, match="run code"):
            load_transformer(tmp_path / name)


def misnamed_files(folder):
    """Name and what is said of each file that is no file of weights, or of another format than its name says."""
    whole = weights("mmdit").read_bytes()
    torch.save(load_file(weights("mmdit")), folder / "zip.safetensors")
    torch.save(load_file(weights("mmdit")), folder / "old.sft", _use_new_zipfile_serialization=False)
    (folder / "renamed.pth").write_bytes(whole)
    right = {"zip.safetensors": "zip.pth", "old.sft": "old.pth", "renamed.pth": "renamed.safetensors"}
    said = {name: f"Rename it to {suffixed}" for name, suffixed in right.items()}
    for suffix in (".pth", ".safetensors"):
        (folder / f"pointer{suffix}").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 10282344\n")
        (folder / f"page{suffix}").write_text("\n<!DOCTYPE html><html>404</html>")
        (folder / f"quantised{suffix}").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(100))
        said |= {f"pointer{suffix}": "git lfs pull", f"page{suffix}": "is a web page", f"quantised{suffix}": "is a GGUF file"}
    (folder / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(100))
    return said | {"model.gguf": "is a GGUF file"}


def test_what_is_no_file_of_weights_is_named(tmp_path):
    for name, said in misnamed_files(tmp_path).items():
        with pytest.raises(CheckpointError, match=said) as caught:
            load_transformer(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value) and "hold code" not in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.complex64])
def test_types_that_are_no_real_numbers_without_a_mark_are_refused(name, dtype):
    tensors, config = read_state_dict(weights(name))
    component = checkpoint.identify(tensors)
    said = f"Weights holds {str(dtype)[6:]} in `.+` and \\d+ more.*is read in fp32"
    with pytest.raises(CheckpointError, match=said) as caught:
        build(component, {key: value.to(dtype) for key, value in tensors.items()}, config, name="Weights")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("picked", [name for name in LOADERS if name != "mmdit"])
def test_a_wrong_pick_is_named(picked):
    with pytest.raises(CheckpointError, match=f"holds the {checkpoint.identify(load_file(weights(picked))).title}.*Expected the HunyuanVideo"):
        load_transformer(weights(picked))


def test_an_image_checkpoint_is_named(tmp_path):
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(1)}, tmp_path / "sd.safetensors")
    with pytest.raises(CheckpointError, match="Stable Diffusion"):
        load_transformer(tmp_path / "sd.safetensors")
    with pytest.raises(CheckpointError, match="Stable Diffusion"):
        load_vae(tmp_path / "sd.safetensors")


def test_missing_unknown_and_misshapen_keys_are_listed(tmp_path):
    tensors = load_file(weights("mmdit"))
    del tensors["time_in.mlp.0.bias"]
    tensors["single_blocks.1.surprise"] = torch.zeros(2)
    tensors["cond_in.linear_2.weight"] = torch.zeros(5, 5)
    save_file(tensors, tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_transformer(tmp_path / "odd.safetensors")
    for part in ("lacks time_in.mlp.0.bias", "unknown single_blocks.1.surprise", "misshapen cond_in.linear_2.weight"):
        assert part in str(caught.value)


@pytest.mark.parametrize("name", LOADERS)
def test_tensors_of_another_rank_or_empty_ones_get_a_paragraph(name):
    """Sizes are read from some of the tensors, before anything says whether those have the right shape."""
    tensors, config = read_state_dict(weights(name))
    component, refused = checkpoint.identify(tensors), set()
    for key, value in tensors.items():
        for shape in ((), (0,) * value.ndim, (5,) * value.ndim, (3,) * (value.ndim + 1)):
            changed = tensors | {key: torch.zeros(shape)}
            try:
                component.config(fold_weight_norm(changed), config)
            except CheckpointError as error:
                assert "\n" not in str(error)
                refused.add(key)
    assert len(refused) >= 3 and any(key.endswith(component.anchor) for key in refused)


def test_a_count_of_heads_that_is_none_gets_a_paragraph():
    tensors, _ = read_state_dict(weights("siglip2_vision"))
    for heads in ("abc", -2, 1.5):
        with pytest.raises(CheckpointError, match=f"which {heads} attention heads cannot share"):
            build(SIGLIP2, tensors, {"num_attention_heads": heads})


@pytest.mark.parametrize("name", LOADERS)
def test_convert_keeps_every_tensor(tmp_path, name):
    tensors, config = read_state_dict(weights(name))
    torch.save({"state_dict": tensors, "metadata": {"kwargs": config}}, tmp_path / "in.pth")
    convert(tmp_path / "in.pth", tmp_path / "out.safetensors")
    converted, converted_config = read_state_dict(tmp_path / "out.safetensors")
    assert converted_config == config and converted.keys() == tensors.keys()
    assert all(torch.equal(tensors[key], converted[key]) for key in tensors)
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] == []
    LOADERS[name](tmp_path / "out.safetensors")


def test_convert_changes_the_type_when_asked(tmp_path):
    convert(weights("mmdit"), tmp_path / "half.safetensors", "fp16")
    assert {t.dtype for t in load_file(tmp_path / "half.safetensors").values()} == {torch.float16}


def test_convert_refuses_what_is_not_ours_and_leaves_the_target(tmp_path):
    (tmp_path / "kept.safetensors").write_text("mine")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="none of the five networks"):
        convert(tmp_path / "other.pth", tmp_path / "kept.safetensors")
    assert (tmp_path / "kept.safetensors").read_text() == "mine"
