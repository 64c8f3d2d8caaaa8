"""The DAC-VAE's training, from sound files to weights that inference loads."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hunyuan_foley_core import checkpoint, cli, media
from hunyuan_foley_core.config import DACVAEConfig
from hunyuan_foley_core.train import checkpoints, loop
from hunyuan_foley_core.train.command import CONFIGS
from hunyuan_foley_core.train.config import build, read_settings
from hunyuan_foley_core.train.dac_vae import INITIAL_LOGVAR, SPECTRAL_NOISE, CodecConfig, CodecObjective, initialise, normalise_latents
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.log import read
from hunyuan_foley_core.train.sounds import Sounds, scan, split
from hunyuan_foley_core.train.spectral_encoder import SpectralEncoderObjective
from hunyuan_foley_core.vae import DACVAE

ROOT = Path(__file__).parent.parent.parent
HOP = 960
SMALL = [
    "model.encoder_dim=2", "model.decoder_dim=32", "model.latent_channels=4", "data.batch=1", "data.frames=6",
    "data.held_out=1", "losses.windows=[128, 512]", "adversary.start=2", "adversary.width=1", "loop.steps=4",
    "loop.warmup_steps=1", "loop.log_every=1", "loop.validate_every=2", "loop.validation_batches=1",
    "loop.save_every=2",
]


def config(*more) -> CodecConfig:
    return build(CodecConfig, read_settings(CONFIGS / "dac_vae_tiny.toml", [*SMALL, *more]))


def burst(number, length=6 * HOP):
    """[1,N]: a strike of a few modes and a click, somewhere in the first half."""
    generator = loop.seeded(7, number)
    start = int(torch.randint(length // 2, (), generator=generator))
    time_ = torch.arange(length) / 48_000
    sound = 0.3 * torch.randn(length, generator=generator) * torch.exp(-time_ / 0.004)
    for mode in range(4):
        frequency = 200 * (1 + mode) * (1 + float(torch.rand((), generator=generator)))
        sound += 0.2 * torch.sin(2 * math.pi * frequency * time_) * torch.exp(-time_ / 0.05)
    quiet = 1e-3 * torch.randn(length, generator=generator)
    quiet[start:] += sound[: length - start]
    return quiet[None].clamp(-1, 1)


def bursts(number):
    return {"waveform": burst(number)[None], "names": [f"burst {number}"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four sounds of several rates, lengths and channel counts, and three files that cannot be used."""
    folder = tmp_path_factory.mktemp("sounds")
    (folder / "deeper").mkdir()
    media.write_audio(folder / "a.wav", burst(0, 30_000), 48_000)
    media.write_audio(folder / "b.flac", burst(1, 20_000).expand(2, -1), 44_100)
    media.write_audio(folder / "deeper" / "c.wav", burst(2, 2_000), 48_000)
    media.write_audio(folder / "d.wav", burst(3, 30_000), 48_000)
    (folder / "broken.wav").write_bytes(b"RIFF and no more")
    (folder / "notes.txt").write_text("no sound")
    media.write_audio(folder / "poison.wav", torch.full((1, 100), 0.5), 48_000)
    data = bytearray((folder / "poison.wav").read_bytes())
    data[-4:] = b"\x00\x00\xc0\x7f"  # a NaN
    (folder / "poison.wav").write_bytes(bytes(data))
    return folder


# The objective


def test_at_the_start_latents_have_scale_one_and_the_output_is_quiet():
    vae = DACVAE(read_sizes())
    initialise(vae, loop.seeded(0))
    sound = 0.05 * torch.randn(1, 1, 20 * HOP, generator=loop.seeded(1))
    mean, logvar = vae.posterior(sound)
    decoded = vae.synthesise(mean)
    assert 0.7 < mean.std() < 1.4 and logvar.unique().tolist() == [-4.0]
    first = vae.encoder.block[0](sound)
    assert 0.5 < first.std() < 2  # where Snake is not just the identity
    assert 1e-4 < decoded.std() and decoded.abs().max() < 0.5


def read_sizes() -> DACVAEConfig:
    return config("model.encoder_dim=8", "model.decoder_dim=128", "model.latent_channels=64").model


def test_equal_seeds_begin_alike():
    one, same, other = (CodecObjective(config(f"loop.seed={seed}")) for seed in (0, 0, 1))
    for ours, theirs, differs in zip(one.phases, same.phases, other.phases):
        assert all(torch.equal(p, theirs.parameters[name]) for name, p in ours.parameters.items())
        assert not all(torch.equal(p, differs.parameters[name]) for name, p in ours.parameters.items())


def test_normalising_changes_the_latents_and_not_the_sound():
    vae = CodecObjective(config()).vae
    sounds = [torch.stack([burst(number), burst(number + 1)]) for number in (0, 2)]
    before = [vae.synthesise(vae.posterior(sound)[0]) for sound in sounds]
    spread = vae.posterior(sounds[0])[1] - 2 * torch.cat([vae.posterior(s)[0] for s in sounds]).std().log()
    normalise_latents(vae, sounds)
    latents = torch.cat([vae.posterior(sound)[0] for sound in sounds])
    assert latents.mean((0, 2)).abs().max() < 1e-5 and latents.std().item() == pytest.approx(1, rel=1e-2)
    assert (vae.posterior(sounds[0])[1] - spread).abs().max() < 0.1
    for sound, was in zip(sounds, before):
        assert torch.allclose(vae.synthesise(vae.posterior(sound)[0]), was, atol=1e-5)


def test_a_frozen_encoder_stays_as_it_was(tmp_path):
    start = tmp_path / "start.safetensors"
    first = CodecObjective(config())
    save_file(first.vae.state_dict(), start)
    frozen = CodecObjective(config("loop.seed=1", f"start={start}", "part=decoder"))
    assert set(frozen.phases[0].parameters) == {
        key for key in first.vae.state_dict() if key.startswith(("decoder.", "post_quant_conv."))
    }
    batch = {"waveform": torch.stack([burst(0), burst(1)])}
    for _, loss, _ in frozen.losses(batch, 0, loop.seeded(0)):
        loss.backward()
    assert frozen.vae.encoder.block[0].weight.grad is None and took_gradient(frozen.phases[0])
    assert torch.equal(frozen.vae.encoder.block[0].weight, first.vae.encoder.block[0].weight)
    with pytest.raises(TrainingError, match="Make the two agree"):
        CodecObjective(config(f"start={start}", "model.latent_channels=6"))


def test_an_encoder_learns_to_tell_the_spectrum(tmp_path):
    chosen = config(
        "part=encoder", "model.encoder_dim=4", "model.latent_channels=16", "loop.steps=80", "loop.validate_every=40",
        "loop.save_every=80", "optimiser.learning_rate=0.003",
    )
    objective = SpectralEncoderObjective(chosen)
    assert set(objective.phases[0].parameters) == {
        key for key in objective.vae.state_dict() if key.startswith(("encoder.", "quant_conv."))
    }
    decoder = objective.vae.decoder.model[0].weight.clone()
    loop.train(objective, lambda number: bursts(0), chosen.loop, tmp_path, settings={}, validation=lambda _: bursts(0))
    lines = read(tmp_path / "metrics.jsonl")
    early, late = (line["validation"] for line in lines if "validation" in line)
    assert early["told"] < late["told"] and 0.3 < late["told"] < 1
    # The posterior says how far off it is.
    missed = [line["codec.missed"] for line in lines if "codec.missed" in line][-1]
    assert late["latent_sigma"] == pytest.approx(math.sqrt(missed), rel=0.6)
    assert torch.equal(objective.vae.decoder.model[0].weight, decoder)
    assert list((tmp_path / "previews").rglob("latents.png"))
    vae = checkpoint.load_vae(checkpoints.found(tmp_path)[-1] / checkpoints.WEIGHTS)
    assert vae.encode(burst(0)[None])[0].shape == (1, 16, 6)


def test_a_decoder_learns_from_spectral_latents_beside_the_encoders():
    chosen = config("part=decoder", "spectral_share=0.5", "model.latent_channels=16")
    objective = CodecObjective(chosen)
    seen = []
    synthesise = objective.vae.synthesise
    objective.vae.synthesise = lambda latents: seen.append(latents) or synthesise(latents)
    waveform = torch.stack([burst(0), burst(1)])
    for _, loss, _ in objective.losses({"waveform": waveform}, 0, loop.seeded(0)):
        assert loss.isfinite()
    drawn, spectral, encoded = seen[0], objective.spectral(waveform), objective.vae.posterior(waveform)[0]
    assert ((drawn[0] - spectral[0]).std() / SPECTRAL_NOISE).item() == pytest.approx(1, rel=0.2)
    spread = math.exp(0.5 * INITIAL_LOGVAR)
    assert ((drawn[1] - encoded[1]).std() / spread).item() == pytest.approx(1, rel=0.3)
    figures = objective.validate({"waveform": waveform}, loop.seeded(0))
    assert figures["mel_distance_from_spectral"] > 0


@pytest.mark.parametrize("words", (["spectral_share=0.5"], ["part=decoder", "spectral_share=1.0"]))
def test_shares_of_spectral_latents_that_mean_nothing_are_refused(words):
    with pytest.raises(TrainingError, match="Expected 0, or with part=decoder"):
        config(*words)


def test_parts_that_there_are_not_are_refused():
    with pytest.raises(TrainingError, match="part is 'head'.*all, encoder, decoder"):
        config("part=head")


def took_gradient(phase: loop.Phase) -> bool:
    """Whether any weight has one; clears them."""
    norms = [weight.grad.norm().item() for weight in phase.parameters.values() if weight.grad is not None]
    for weight in phase.parameters.values():
        weight.grad = None
    return sum(norms) > 0


def test_each_phase_moves_only_its_own_weights():
    objective = CodecObjective(config())
    gradients = {}
    for phase, loss, _ in objective.losses(bursts(0), 2, loop.seeded(0)):
        loss.backward()
        gradients[phase] = {p.name: took_gradient(p) for p in objective.phases}
    assert gradients == {
        "discriminators": {"codec": False, "discriminators": True},
        "codec": {"codec": True, "discriminators": False},
    }


def test_no_judges_are_built_that_would_never_judge():
    objective = CodecObjective(config("adversary.start=4"))
    assert [phase.name for phase in objective.phases] == ["codec"]
    assert [phase for phase, _, _ in objective.losses(bursts(0), 3, loop.seeded(0))] == ["codec"]


def test_one_clip_is_learned(tmp_path):
    chosen = config("adversary.start=99", "loop.steps=20", "loop.validate_every=20", "optimiser.learning_rate=0.003")
    loop.train(
        CodecObjective(chosen), lambda number: bursts(0), chosen.loop, tmp_path, settings={}, validation=bursts
    )
    lines = read(tmp_path / "metrics.jsonl")
    losses = [line["codec.loss"] for line in lines if "codec.loss" in line]
    assert losses[-1] < 0.85 * losses[0]
    assert lines[-1]["validation"].keys() >= {"mel_distance", "si_sdr_db", "level_error_db", "latent_std"}


def test_a_killed_codec_goes_on_as_if_nothing_had_happened(tmp_path):
    chosen = config()

    def train(folder, batches=bursts):
        loop.train(CodecObjective(chosen), batches, chosen.loop, folder, settings={}, validation=bursts)

    def die(number):
        if number == 3:
            raise ConnectionError  # no save follows: what is left is what a kill leaves
        return bursts(number)

    train(tmp_path / "whole")
    with pytest.raises(ConnectionError):
        train(tmp_path / "parts", die)
    train(tmp_path / "parts")
    whole, parts = (read(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts"))
    assert [line["step"] for line in whole] == [line["step"] for line in parts] == [1, 2, 2, 3, 4, 4]
    for one, other in zip(whole, parts):
        for name in one.keys() - {"seconds", "validation"}:
            assert one[name] == pytest.approx(other[name], abs=1e-6)
    assert whole[-1]["validation"] == pytest.approx(parts[-1]["validation"], abs=1e-6)


# Sound files


def test_files_are_found_and_the_unusable_named(folder, caplog):
    found = scan(folder)
    assert [sound.path.name for sound in found] == ["a.wav", "b.flac", "d.wav", "c.wav"]
    assert found[1].seconds == pytest.approx(20_000 / 44_100, abs=1e-3)
    assert "2 of 6 files" in caplog.text and "broken.wav" in caplog.text and "poison.wav" in caplog.text


def test_batches_depend_on_their_number_alone(folder):
    source = Sounds(scan(folder), batch=3, length=6 * HOP, seed=1)
    first, again, other = source(5), source(5), source(6)
    assert first["waveform"].shape == (3, 1, 6 * HOP) and len(first["names"]) == 3
    assert torch.equal(first["waveform"], again["waveform"]) and first["names"] == again["names"]
    assert not torch.equal(first["waveform"], other["waveform"])


def test_short_sounds_are_followed_by_silence(folder):
    short = [sound for sound in scan(folder) if sound.path.name == "c.wav"]
    waveform = Sounds(short, batch=1, length=6 * HOP, seed=1)(0)["waveform"]
    assert waveform[..., :2_000].abs().max() > 0.01 and waveform[..., 2_000:].abs().max() == 0


def test_held_out_files_are_never_trained_on(folder):
    training, validation = split(replace(config().data, folder=str(folder), held_out=2), HOP, seed=0)
    assert not {sound.path for sound in training.files} & {sound.path for sound in validation.files}
    assert len(training.files) == len(validation.files) == 2
    assert split(replace(config().data, folder=str(folder), held_out=0), HOP, seed=0)[1] is None


def test_too_few_sounds_are_refused(folder, tmp_path):
    with pytest.raises(TrainingError, match="has 4 sounds.*more than the 4"):
        split(replace(config().data, folder=str(folder), held_out=4), HOP, seed=0)
    with pytest.raises(TrainingError, match="no sound that can be read"):
        scan(tmp_path)


# The command


def command(folder, out, *more):
    return ["train", "dac_vae_tiny", f"data.folder={folder}", f"out={out}", *SMALL, *more]


def test_the_command_trains_a_vae_that_inference_loads(folder, tmp_path, capsys):
    assert cli.main(command(folder, tmp_path)) == 0
    (last,) = capsys.readouterr().out.split()
    vae = checkpoint.load_vae(Path(last) / "weights.safetensors")
    assert vae.config == config().model
    sound = burst(9)[None]
    assert vae.decode(vae.encode(sound)[0]).shape == sound.shape
    tensors, sizes = checkpoint.read_state_dict(Path(last) / "weights.safetensors")
    assert sizes["latent_channels"] == 4 and sizes["encoder_rates"] == [8, 5, 4, 3, 2] and len(tensors) > 100
    lines = read(tmp_path / "metrics.jsonl")
    assert len(list((tmp_path / "previews" / "step-00000004").glob("0-*.flac"))) == 2
    assert "discriminators.loss" in lines[-2] and "discriminators.loss" not in lines[0]


def test_the_command_goes_on_and_tells_what_changed(folder, tmp_path, capsys, caplog):
    assert cli.main(command(folder, tmp_path, "loop.steps=2")) == 0
    assert cli.main(command(folder, tmp_path, "losses.kl=0.01")) == 0
    assert "losses.kl from 0.001 to 0.01" in caplog.text and "loop.steps from 2 to 4" in caplog.text
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl") if "codec.loss" in line] == [1, 2, 3, 4]
    assert cli.main(command(folder, tmp_path, "model.latent_channels=8")) == 1
    assert "model.latent_channels from 4 to 8" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    (["no_such_config"], "no file no_such_config"),
    (["dac_vae_tiny", "loop.step=3"], "`loop.step`.*mean `loop.steps`"),
    (["dac_vae_tiny", "task=video"], "task is 'video'.*dac_vae"),
    (["dac_vae_tiny", "data.folder=/nowhere"], "nowhere has no sound"),
    (["dac_vae_tiny", "data.batch=0"], "data.batch is 0"),
    (["dac_vae_tiny", "device=cupboard"], "device is 'cupboard'"),
    (["dac_vae_tiny", "model.encoder_rates=[8, 5, 5, 4]"], "encoder_rates.*must give 960"),
    (["dac_vae_tiny", "model.decoder_dim=24"], "decoder_dim is 24.*multiple of 32"),
    (["dac_vae_tiny", "losses.windows=[100]"], "losses.windows is .100"),
])
def test_mistakes_give_one_paragraph(words, message, capsys):
    assert cli.main(["train", *words]) == 1
    error = capsys.readouterr().err.strip()
    assert len(error.splitlines()) == 1
    assert re.search(message, error)


def test_ctrl_c_saves_and_says_so(folder, tmp_path):
    words = command(folder, tmp_path, "loop.steps=100000", "loop.save_every=100000")
    process = subprocess.Popen(
        [sys.executable, "-m", "hunyuan_foley_core", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    while not read(tmp_path / "metrics.jsonl") and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    errors = process.communicate()[1]
    assert process.returncode == 130 and "the same command goes on from there" in errors
    (saved,) = checkpoints.found(tmp_path)
    assert checkpoints.load(saved)["step"] == int(saved.name.split("-")[1]) > 0
