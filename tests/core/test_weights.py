"""The small model that ships: small, whole, with a codec that keeps hits where they are."""

import fnmatch
import subprocess

import pytest
import small_weights
import torch
from safetensors.torch import save_file

from hunyuan_foley_core import checkpoint, cli, small_model
from hunyuan_foley_core.data import make_clip, scoring, write_clip
from hunyuan_foley_core.encoders.tokenizer import FoleyTokenizer
from hunyuan_foley_core.pipeline import Settings, find_model_files, generate

FOLDER, ROOT = small_model.FOLDER, small_model.FOLDER.parent
MOST_BYTES = 25_000_000
LOADERS = {
    small_model.TRANSFORMER: checkpoint.load_transformer, small_model.VAE: checkpoint.load_vae,
    small_model.SIGLIP2: checkpoint.load_siglip2, small_model.SYNCHFORMER: checkpoint.load_synchformer,
    small_model.CLAP: checkpoint.load_clap,
}
SEEDS, SECONDS = range(960_000, 960_006), 2.0  # never trained on


@pytest.fixture(scope="module")
def networks():
    return {name: load(FOLDER / name) for name, load in LOADERS.items()}


def test_the_folder_has_these_files_and_stays_small():
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted([*LOADERS, small_model.TOKENIZER, "README.md"])
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


@pytest.mark.parametrize("name", LOADERS)
def test_each_file_loads_as_what_its_name_says(networks, name):
    parameters = list(networks[name].parameters())
    assert all(torch.isfinite(parameter).all() for parameter in parameters)
    assert (FOLDER / name).stat().st_size < 2.1 * sum(parameter.numel() for parameter in parameters)  # 16 bits each


def test_they_fit_each_other(networks):
    model = networks[small_model.TRANSFORMER].config
    assert model.latent_channels == networks[small_model.VAE].config.latent_channels
    assert networks[small_model.VAE].config.hop == 960
    widths = [networks[name].config.hidden_size for name in (small_model.CLAP, small_model.SIGLIP2, small_model.SYNCHFORMER)]
    assert widths == [model.text_dim, model.visual_dim, model.sync_dim]


def test_the_tokenizer_belongs_to_its_clap(networks):
    clap = networks[small_model.CLAP]
    assert isinstance(clap.tokenizer, FoleyTokenizer) and clap.tokenizer.vocabulary <= clap.config.vocab_size
    words, letters = (clap.tokenizer.encode([text])[0].shape[1] for text in ("a wooden ball bounces", "zq xw vj kq fpg hhj"))
    assert words < letters  # it was learned from captions


def test_another_claps_tokenizer_is_refused(networks, tmp_path):
    save_file(small_weights.clap(torch.Generator(), vocab_size=260), tmp_path / "clap.safetensors")
    with pytest.raises(checkpoint.CheckpointError, match="tokens, clap.safetensors knows 260"):
        checkpoint.load_clap(tmp_path / "clap.safetensors", FOLDER / small_model.TOKENIZER)


def test_they_travel_with_the_pack():
    names = [f"weights/{path.name}" for path in FOLDER.iterdir()]
    left_out = [line.strip().rstrip("/") for line in (ROOT / ".comfyignore").read_text().splitlines() if line.strip()]
    assert not [name for name in names for pattern in left_out if fnmatch.fnmatch(name, pattern) or name.startswith(pattern)]
    if (ROOT / ".git").exists():
        assert subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True).stdout == b""


def test_generate_finds_them_and_says_what_they_are_not(tmp_path, capsys):
    out = tmp_path / "hits.wav"
    assert cli.main(["generate", "--prompt", "hammering on a glass block", "--seconds", "1", "--steps", "2", "--out", str(out)]) == 0
    assert out.is_file() and "not made for real footage" in capsys.readouterr().err


def test_what_is_said_is_what_is_heard(networks):
    """The codec keeps hits where they are, to 60 ms, for sounds it was not trained on."""
    vae, found, true = networks[small_model.VAE].float(), [], []
    for seed in SEEDS:
        clip = make_clip(seed, SECONDS)
        decoded = vae.decode(vae.encode(clip.waveform[None, None])[0])
        found.append(scoring.onsets(decoded[0, 0].numpy()))
        true.append([event.time for event in clip.events])
    assert sum(map(len, true)) >= 10 and f1(found, true) >= 0.85


def f1(found, true) -> float:
    """Of onsets against events, over all clips, +-60 ms."""
    return scoring.total([scoring.compare(a, b, 0.06) for a, b in zip(found, true, strict=True)]).f1


def test_it_hits_when_the_picture_hits(tmp_path):
    """From video files, better than by another clip's events; `evaluate-tiny` says how well, on more clips."""
    files, found, true = find_model_files(FOLDER), [], []
    for seed in SEEDS:
        clip = make_clip(seed, SECONDS)
        write_clip(clip, tmp_path / f"{seed}.mp4")
        waveform = generate(files, Settings(prompt=clip.caption, steps=20, seed=seed), tmp_path / f"{seed}.mp4")
        found.append(scoring.onsets(waveform.flatten().numpy()))
        true.append([event.time for event in clip.events])
    others = [true[step:] + true[:step] for step in range(1, len(true))]
    score, chance = f1(found, true), max(f1(found, other) for other in others)
    assert score >= 0.5 and score >= chance + 0.2


def test_the_prompt_and_the_picture_change_what_is_made(tmp_path):
    """It hears both, where anything hits at all."""
    files = find_model_files(FOLDER)
    clips = [clip for clip in (make_clip(seed, SECONDS) for seed in SEEDS) if clip.events][:2]
    videos = [tmp_path / f"{clip.scene.seed}.mp4" for clip in clips]
    for clip, video in zip(clips, videos, strict=True):
        write_clip(clip, video)
    first, second = (clip.caption for clip in clips)
    made = [
        generate(files, Settings(prompt=prompt, steps=8, seed=0), video)
        for prompt, video in ((first, videos[0]), (second, videos[0]), (first, videos[1]))
    ]
    level = made[0].square().mean().sqrt()
    for other in made[1:]:
        assert (made[0] - other).square().mean().sqrt() > 0.1 * level
