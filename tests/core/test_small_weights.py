"""The small weights stand for the released files, so they must look like them and be fit to make a sound."""

import json
import re
from pathlib import Path

import pytest
import small_weights
import torch

from hunyuan_foley_core import checkpoint

MANIFESTS = Path(__file__).parent.parent / "fixtures" / "manifests"
FILES = {
    small_weights.TRANSFORMER: ("hunyuanvideo_foley_xxl.json", checkpoint.TRANSFORMER),
    small_weights.VAE: ("vae_128d_48k.json", checkpoint.VAE),
    small_weights.SYNCHFORMER: ("synchformer_state_dict.json", checkpoint.SYNCHFORMER),
    small_weights.SIGLIP2: ("siglip2_base_patch16_512_vision.json", checkpoint.SIGLIP2),
    small_weights.CLAP: ("larger_clap_general_text.json", checkpoint.CLAP),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    small_weights.write(folder)
    return folder


def numberless(keys) -> set[str]:
    return {re.sub(r"\.\d+\.", ".N.", re.sub(r"\.\d+\.", ".N.", key)) for key in keys}


@pytest.mark.parametrize("name", FILES)
def test_keys_and_ranks_are_those_of_the_released_file(folder, name):
    manifest, component = FILES[name]
    released = json.loads((MANIFESTS / manifest).read_text())
    needed = {key: len(shape) for key, shape in released.items() if not key.startswith(component.unused)}
    ours, _ = checkpoint.read_state_dict(folder / name)
    assert numberless(ours) == numberless(needed)
    assert all(tensor.ndim == needed[key] for key, tensor in ours.items() if key in needed)


def test_latents_decode_to_a_plain_sound_and_back(folder):
    vae = checkpoint.load_vae(folder / small_weights.VAE)
    sound = vae.decode(torch.randn(1, 128, 100, generator=torch.Generator().manual_seed(1)))
    assert 0.05 < sound.std() < 0.4
    assert sound.abs().max() < 0.99
    latents, _ = vae.encode(sound)
    assert 0.2 < latents.std() < 5


def test_features_tell_inputs_apart(folder):
    clap = checkpoint.load_clap(folder / small_weights.CLAP)
    one, other = clap.encode_text(["rain", "fire"])
    assert (one - other).std() > 0.1
    pictures = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    seen = checkpoint.load_siglip2(folder / small_weights.SIGLIP2).encode_frames(pictures)
    assert (seen[0] - seen[1]).std() > 0.02


def test_the_same_seed_gives_the_same_weights(folder, tmp_path):
    small_weights.write(tmp_path)
    for name in FILES:
        ours, again = (checkpoint.read_state_dict(place / name)[0] for place in (folder, tmp_path))
        assert all(torch.equal(ours[key], again[key]) for key in ours)
