"""ATST-Frame with random weights in the published layout, against torchaudio's spectrogram and PyTorch's own transformer."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hunyuan_foley_core import media
from hunyuan_foley_core.errors import CheckpointError
from hunyuan_foley_core.timing import SAMPLE_RATE
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.teachers import build_teacher
from hunyuan_foley_core.train.teachers.atst import LEAST_DB, MOST_DB, PREFIX, RATE, mel_decibels, mel_patches

WIDTH, HEADS, BLOCKS, POSITIONS = 128, 2, 2, 250


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def encoder_state(width=WIDTH, blocks=BLOCKS):
    shapes = {
        "mask_embed": (1, 1, width), "pos_embed": (1, 1 + POSITIONS, width),
        "patch_embed.patch_embed.weight": (width, 256), "patch_embed.patch_embed.bias": (width,),
        "norm_frame.weight": (width,), "norm_frame.bias": (width,),
    }
    for index in range(blocks):
        for name, shape in {
            "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
            "attn.qkv.weight": (3 * width, width), "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
            "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
        }.items():
            shapes[f"blocks.{index}.{name}"] = shape
    return {
        key: 0.1 * noise(*shape, seed=seed) + (1.0 if "norm" in key and key.endswith("weight") else 0.0)
        for seed, (key, shape) in enumerate(shapes.items())
    }


def write_checkpoint(path, state, **extra):
    """As PyTorch Lightning leaves it: teacher and student, optimiser, and figures as NumPy scalars."""
    tensors = {PREFIX + key: value for key, value in state.items()}
    tensors |= {f"model.student.encoder.{key}": torch.zeros_like(value) for key, value in state.items()}
    tensors["model.teacher.projector.0.weight"] = torch.zeros(4, 4)
    checkpoint = {
        "epoch": 3, "state_dict": tensors, "optimizer_states": [{"state": {}}], "hyper_parameters": {"arch": "base"},
        "callbacks": {"best": np.float64(0.25)}, **extra,
    }
    torch.save(checkpoint, path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("atst") / "atstframe.ckpt", encoder_state())


@pytest.fixture(scope="module")
def teacher(checkpoint):
    return build_teacher("atst", checkpoint)


# The front end


def torchaudio_decibels(waveform):
    torchaudio = pytest.importorskip("torchaudio")
    mel = torchaudio.transforms.MelSpectrogram(
        RATE, n_fft=1024, win_length=1024, hop_length=160, n_mels=64, f_min=60, f_max=7800, power=2
    )
    return torchaudio.transforms.AmplitudeToDB("power", top_db=80)(mel(waveform))[:, 0]


def test_decibels_are_torchaudios():
    loud_then_quiet = torch.cat([noise(2, 1, 8000), 1e-6 * noise(2, 1, 8160, seed=1)], dim=-1)
    loud_then_quiet[1] *= 1e-3  # each clip has its own loudest
    ours = mel_decibels(loud_then_quiet)
    assert ours.shape == (2, 64, 102)
    torch.testing.assert_close(ours, torchaudio_decibels(loud_then_quiet), atol=2e-3, rtol=0)
    assert (ours.amax(dim=(1, 2)) - ours.amin(dim=(1, 2))).tolist() == pytest.approx([80, 80], abs=1e-3)


def test_silence_is_the_least():
    assert mel_decibels(torch.zeros(1, 1, 1600)).unique().tolist() == [-100]


def test_patches_are_four_frames_band_by_band():
    waveform = noise(1, 1, 16_160)
    patches, levels = mel_patches(waveform), mel_decibels(waveform)
    assert patches.shape == (1, 25, 256)  # 102 frames, the last two are left over
    scaled = (levels - LEAST_DB) / (MOST_DB - LEAST_DB) * 2 - 1
    torch.testing.assert_close(patches[0, 7], scaled[0, :, 28:32].reshape(-1))


# The encoder


def reference(state, patches):
    """The same through PyTorch's own layers."""
    tokens = patches @ state["patch_embed.patch_embed.weight"].T + state["patch_embed.patch_embed.bias"]
    tokens = tokens + state["pos_embed"][:, 1 : 1 + patches.shape[1]]
    for index in range(BLOCKS):
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
        )
        part = {key.removeprefix(f"blocks.{index}."): value for key, value in state.items()}
        layer.load_state_dict({
            "self_attn.in_proj_weight": part["attn.qkv.weight"], "self_attn.in_proj_bias": torch.zeros(3 * WIDTH),
            "self_attn.out_proj.weight": part["attn.proj.weight"], "self_attn.out_proj.bias": part["attn.proj.bias"],
            "linear1.weight": part["mlp.fc1.weight"], "linear1.bias": part["mlp.fc1.bias"],
            "linear2.weight": part["mlp.fc2.weight"], "linear2.bias": part["mlp.fc2.bias"],
            **{key: part[key] for key in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")},
        })
        tokens = layer(tokens)
    norm = state["norm_frame.weight"], state["norm_frame.bias"]
    return torch.nn.functional.layer_norm(tokens, (WIDTH,), *norm, eps=1e-6)


def test_features_are_those_of_pytorchs_layers(teacher):
    waveform = 0.1 * noise(2, 1, SAMPLE_RATE)
    assert (teacher.size, teacher.encoder.config.num_heads) == (WIDTH, HEADS)
    features = teacher.features(waveform)
    assert features.shape == (2, 25, WIDTH) and not features.requires_grad
    expected = reference(encoder_state(), mel_patches(media.resample(waveform, SAMPLE_RATE, RATE)))
    torch.testing.assert_close(features, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("seconds, frames", [(0.5, 12), (8, 200), (10, 250), (12, 300)])
def test_25_frames_a_second(teacher, seconds, frames):
    assert teacher.features(0.1 * noise(1, 1, int(seconds * SAMPLE_RATE))).shape == (1, frames, WIDTH)


def test_long_sounds_are_taken_in_equal_pieces(teacher):
    waveform = 0.1 * noise(1, 1, 12 * SAMPLE_RATE)
    patches = mel_patches(media.resample(waveform, SAMPLE_RATE, RATE))
    with torch.no_grad():
        expected = torch.cat([teacher.encoder(patches[:, :150]), teacher.encoder(patches[:, 150:])], dim=1)
    torch.testing.assert_close(teacher.features(waveform), expected)


def test_the_name_tells_weights_apart(teacher, tmp_path):
    state = encoder_state()
    same = build_teacher("atst", write_checkpoint(tmp_path / "same.ckpt", state))
    state["blocks.1.mlp.fc2.bias"][5] += 1
    other = build_teacher("atst", write_checkpoint(tmp_path / "other.ckpt", state))
    assert same.name == teacher.name != other.name


# Files


def test_the_tensors_alone_will_do(teacher, tmp_path):
    save_file(encoder_state(), tmp_path / "encoder.safetensors")
    assert build_teacher("atst", tmp_path / "encoder.safetensors").name == teacher.name


class Harmful:
    def __reduce__(self):
        return print, ("code of a checkpoint ran",)


def test_a_file_with_code_is_refused_and_does_not_run(tmp_path, capsys):
    path = write_checkpoint(tmp_path / "bad.ckpt", encoder_state(), harm=Harmful())
    with pytest.raises(CheckpointError, match="bad.ckpt.*run code"):
        build_teacher("atst", path)
    assert "ran" not in capsys.readouterr().out


def test_other_networks_are_refused(tmp_path):
    state = encoder_state()
    del state["blocks.1.attn.proj.bias"]
    with pytest.raises(CheckpointError, match="lacks blocks.1.attn.proj.bias"):
        build_teacher("atst", write_checkpoint(tmp_path / "part.ckpt", state))
    save_file({"vision_model.embeddings.patch_embedding.weight": torch.zeros(1)}, tmp_path / "siglip.safetensors")
    with pytest.raises(CheckpointError, match="SigLIP2.*Expected the ATST-Frame"):
        build_teacher("atst", tmp_path / "siglip.safetensors")
    clip = encoder_state() | {"patch_embed.patch_embed.weight": torch.zeros(WIDTH, 1, 64, 4).flatten(1)[:, :64]}
    with pytest.raises(CheckpointError, match="patches of 64 values.*not ATST-Clip"):
        build_teacher("atst", write_checkpoint(tmp_path / "clip.ckpt", clip))


def test_a_file_is_needed(tmp_path):
    with pytest.raises(TrainingError, match="audiossl"):
        build_teacher("atst")
    with pytest.raises(CheckpointError, match="no file"):
        build_teacher("atst", tmp_path / "none.ckpt")
