"""From clips to a cache and from the cache to batches, on small random weights."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hunyuan_foley_core import checkpoint, cli, conditions, media
from hunyuan_foley_core.config import DACVAEConfig, SigLIP2Config, SynchformerConfig
from hunyuan_foley_core.data import make_clip, write_dataset
from hunyuan_foley_core.encoders.siglip2 import SigLIP2VisionTower
from hunyuan_foley_core.encoders.synchformer import SynchformerVisualTower
from hunyuan_foley_core.pipeline import ModelFiles, find_model_files
from hunyuan_foley_core.timing import LATENT_HOP
from hunyuan_foley_core.train import cache as caching
from hunyuan_foley_core.train import shards
from hunyuan_foley_core.train.cache import build_cache, piece_starts
from hunyuan_foley_core.train.clips import encode_caption, encode_clip
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.features import CachedClips, FeatureConfig, FeatureSizes, split
from hunyuan_foley_core.train.manifest import Entry, read_dataset
from hunyuan_foley_core.train.spectral_latents import SpectralLatents
from hunyuan_foley_core.vae import DACVAE
from scripts import small_weights
from tests import videos

WIDTH = small_weights.FEATURES


class Levels:
    """A teacher: the level of each 10 ms."""

    name, size = "levels", 1

    def features(self, waveform):
        return waveform.unflatten(-1, (-1, 480)).square().mean(dim=-1).sqrt().transpose(1, 2)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small networks, those that see and hear smaller than `small_weights` has them; no transformer."""
    folder, generator = tmp_path_factory.mktemp("models"), torch.Generator().manual_seed(0)
    siglip2 = SigLIP2Config(hidden_size=WIDTH, num_heads=2, num_layers=1, mlp_hidden=32, patch_size=16, image_size=32)
    synchformer = SynchformerConfig(
        hidden_size=WIDTH, num_heads=2, num_blocks=1, mlp_hidden=32, aggregator_mlp_hidden=32,
        patch_size=16, tubelet_size=2, image_size=32, time_steps=8,
    )
    vae = DACVAEConfig(4, (2, 3, 4, 5, 8), 32, (8, 5, 4, 3, 2), 8)
    networks = {
        "siglip2": SigLIP2VisionTower(siglip2, device="meta"),
        "synchformer": SynchformerVisualTower(synchformer, device="meta"), "vae": DACVAE(vae, device="meta"),
    }
    for name, network in networks.items():
        save_file(small_weights.random_state(network, generator), folder / f"{name}.safetensors")
    tokenizer = small_weights.byte_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(small_weights.clap(generator, tokenizer.get_vocab_size()), folder / "clap.safetensors")
    return folder


@pytest.fixture(scope="module")
def files(models) -> ModelFiles:
    return find_model_files(models, optional=("transformer",))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Six clips of two lengths; the captions of some are longer than others."""
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder, range(4), 1.0, size=(32, 32))
    write_dataset(folder, range(4, 6), 0.8, size=(32, 32))
    return folder


@pytest.fixture(scope="module")
def built(world, files, tmp_path_factory):
    """A cache of the world in shards of four."""
    folder = tmp_path_factory.mktemp("caches") / "cache"
    before, caching.SHARD_CLIPS = caching.SHARD_CLIPS, 4
    report = build_cache(read_dataset(world).entries, files, folder, teacher=Levels())
    caching.SHARD_CLIPS = before
    assert (report.made, report.kept, report.skipped) == (6, 0, [])
    return folder


def one_clip(folder, name="clip.mp4", seconds=1.0, sound=None, **more) -> Entry:
    """A video with sound of its own."""
    waveform = videos.sine(seconds) if sound is None else sound
    path = videos.make_video(folder / name, frames=round(25 * seconds), rate=25, waveform=waveform, **more)
    return Entry(name, path, path, "a tone")


# What is in the cache


def test_clips_hold_what_inference_would_compute(built, world, files):
    cache = shards.open_cache(built)
    assert sorted(path.name[:12] for path in built.glob("shard-*")) == ["shard-000000", "shard-000001"]
    entry = read_dataset(world).entries[5]
    record, place = cache.clips[f"{entry.video}#0", 0.0]
    with shards.open_shard(place.shard) as shard:
        tensors = {name: shard.get_tensor(f"{place.number}.{name}") for name in record.shapes}
    video = conditions.encode_video(
        media.stream_frames(entry.video), checkpoint.load_siglip2(files.siglip2), checkpoint.load_synchformer(files.synchformer)
    )
    length = round(video.seconds * 50)
    assert torch.allclose(tensors["visual"].float(), video.visual[0], rtol=1e-3, atol=1e-3)
    assert torch.allclose(tensors["sync"].float(), video.sync[0], rtol=1e-3, atol=1e-3)
    clip = make_clip(5, 0.8)
    waveform = clip.waveform[None, None, : length * LATENT_HOP]
    mean, logvar = checkpoint.load_vae(files.vae).encode(waveform)
    assert torch.equal(tensors["mean"], mean[0]) and torch.equal(tensors["logvar"], logvar[0])
    assert tensors["mean"].shape == (8, length)
    assert tensors["teacher"].shape == (2 * length, 1)
    assert record.caption == (conditions.with_bandwidth_tag(clip.caption) if clip.tagged else clip.caption)
    assert (record.bandwidth > 16_000) == clip.tagged


def test_spectral_latents_are_those_of_the_sound_itself(files, tmp_path):
    """And good for every DAC-VAE of as many channels, whatever its weights."""
    paths = {}
    for channels in (12, 13):
        paths[channels] = tmp_path / f"vae{channels}.safetensors"
        network = DACVAE(DACVAEConfig(4, (2, 3, 4, 5, 8), 32, (8, 5, 4, 3, 2), channels), device="meta")
        save_file(small_weights.random_state(network, torch.Generator().manual_seed(0)), paths[channels])
    sound = videos.sine(1.0)
    entry = replace(one_clip(tmp_path), audio=tmp_path / "clip.wav")
    media.write_audio(entry.audio, torch.from_numpy(sound), 48_000)
    build_cache([entry], replace(files, vae=paths[12]), tmp_path / "cache", spectral=True)
    cache = shards.open_cache(tmp_path / "cache")
    assert cache.identity["vae"] == "spectral-12"
    _, tensors = CachedClips(cache, list(cache.clips.values()), 1, 0).read(0)
    whole = SpectralLatents(12)(torch.from_numpy(sound)[None])[0]
    kept = tensors["mean"].shape[1] - 2  # the last windows reach over the clip's end
    assert kept > 40 and torch.allclose(tensors["mean"][:, :kept], whole[:, :kept], atol=1e-4)
    config = FeatureConfig(str(tmp_path / "cache"), 0, 1)
    assert split(config, 0, checkpoint.load_vae(paths[12]))
    with pytest.raises(TrainingError, match="another vae"):
        split(config, 0, checkpoint.load_vae(paths[13]))
    with pytest.raises(TrainingError, match="latent_channels is 8"):
        build_cache([entry], files, tmp_path / "other", spectral=True)


def test_a_caption_in_a_batch_is_as_if_encoded_with_the_others(files):
    clap = checkpoint.load_clap(files.clap, files.tokenizer)
    captions = ["rain", "a dog barks at the gate", "", "x" * 75, "x" * 74, "y" * 200]
    for chosen in (captions[:3], captions):
        together = clap.encode_text(chosen)[:, :77]
        for caption, expected in zip(chosen, together):
            features, own = encode_caption(clap, caption)
            assert len(features) == min(own + 1, 77)
            padded = torch.cat((features[: len(expected)], features[-1:].expand(max(0, len(expected) - len(features)), -1)))
            assert torch.allclose(padded, expected, atol=1e-5)


def test_sound_and_picture_are_cut_to_what_both_have(files, tmp_path):
    entries = [
        one_clip(tmp_path, "short sound.mp4", 2.0, videos.sine(1.3), audio_codec="flac", format="matroska"),
        one_clip(tmp_path, "short picture.mp4", 1.0, videos.sine(2.0)),
    ]
    assert not build_cache(entries, files, tmp_path / "cache").skipped
    lengths = {record.name: record.shapes["mean"][1] for record, _ in shards.open_cache(tmp_path / "cache").clips.values()}
    assert lengths["short sound.mp4"] in (62, 64) and lengths["short picture.mp4"] in (48, 50)


@pytest.mark.parametrize("duration, seconds, starts", [
    (None, 2.0, [0]), (1.5, 2.0, [0]), (2.0, 2.0, [0]), (2.9, 2.0, [0]), (3.0, 2.0, [0, 1]), (3.5, 2.0, [0, 1.48]),
    (4.04, 2.0, [0, 2]), (30.1, 15.0, [0, 15]), (9.999999999, 2.5, [0, 2.5, 5, 7.5]),
])
def test_pieces_of_a_long_clip(duration, seconds, starts):
    assert piece_starts(duration, seconds) == pytest.approx(starts)


def test_pieces_hold_their_part_of_the_clip(files, tmp_path):
    sound = videos.sine(2.4)
    sound[:, : round(1.2 * 48_000)] *= 0.25
    entry = replace(one_clip(tmp_path, "long.mp4", 2.4), audio=tmp_path / "long.wav")
    media.write_audio(entry.audio, torch.from_numpy(sound), 48_000)
    build_cache([entry], files, tmp_path / "cache", seconds=1.2, teacher=Levels())
    source = CachedClips(cache := shards.open_cache(tmp_path / "cache"), list(cache.clips.values()), 1, 0)
    (first, quiet), (second, loud) = source.read(0), source.read(1)
    assert (first.name, second.name) == ("long.mp4", "long.mp4 at 1.2 s")
    assert loud["teacher"].mean().item() == pytest.approx(4 * quiet["teacher"].mean().item(), rel=0.02)


# Going on


def test_clips_that_are_there_are_kept_and_changed_ones_made_anew(world, files, tmp_path):
    entries = read_dataset(world).entries[:2]
    build_cache(entries, files, tmp_path)
    report = build_cache(entries, files, tmp_path)
    assert (report.made, report.kept) == (0, 2) and len(list(tmp_path.glob("shard-*"))) == 1
    entries[1] = replace(entries[1], caption="something else")
    report = build_cache(entries, files, tmp_path)
    assert (report.made, report.kept) == (1, 1)
    captions = [record.caption for record, _ in shards.open_cache(tmp_path).clips.values()]
    assert len(captions) == 2 and any("something else" in caption for caption in captions)


def test_one_video_may_have_several_captions(files, tmp_path):
    entry = one_clip(tmp_path)
    build_cache([entry, replace(entry, caption="a hum", take=1)], files, tmp_path / "cache")
    captions = {record.caption for record, _ in shards.open_cache(tmp_path / "cache").clips.values()}
    assert captions == {"a tone", "a hum"}
    with pytest.raises(TrainingError, match="clips of 1 videos"):  # so both are trained on or neither
        split(FeatureConfig(str(tmp_path / "cache"), 1, 2, ()), 0)


def test_what_was_encoded_before_a_stop_is_kept(world, files, tmp_path):
    def stop(done, of):
        if done >= 2:
            raise KeyboardInterrupt

    entries = read_dataset(world).entries
    with pytest.raises(KeyboardInterrupt):
        build_cache(entries, files, tmp_path, callback=stop)
    report = build_cache(entries, files, tmp_path)
    assert (report.made, report.kept) == (4, 2)


def test_a_stop_within_a_long_clip_keeps_its_pieces(files, tmp_path):
    entry = one_clip(tmp_path, seconds=2.4)

    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache([entry], files, tmp_path / "cache", seconds=0.8, callback=stop)
    report = build_cache([entry], files, tmp_path / "cache", seconds=0.8)
    assert (report.made, report.kept) == (2, 1)
    assert build_cache([entry], files, tmp_path / "cache", seconds=0.8).kept == 3


def test_ctrl_c_finishes_the_clip_and_says_how_to_go_on(world, models, tmp_path, monkeypatch, capsys):
    def interrupted(*args):
        signal.raise_signal(signal.SIGINT)
        return encode_clip(*args)

    monkeypatch.setattr(caching, "encode_clip", interrupted)
    assert cli.main(["prepare", str(world), str(tmp_path), "--models", str(models), "--device", "cpu"]) == 130
    assert "Stopped after 1 new clips; the same command goes on" in capsys.readouterr().err
    assert len(shards.open_cache(tmp_path).clips) == 1


def test_two_builds_may_add_to_one_cache(world, files, tmp_path):
    entries = read_dataset(world).entries

    def meanwhile(done, of):
        build_cache(entries[1:2], files, tmp_path)

    build_cache(entries[:1], files, tmp_path, callback=meanwhile)
    assert len(shards.open_cache(tmp_path).clips) == 2


# Bad input


def test_clips_that_cannot_be_used_are_listed_and_the_others_made(world, files, tmp_path):
    good = read_dataset(world).entries
    mute = Entry("mute.mp4", good[0].video, good[0].video, "")
    silent = one_clip(tmp_path, "silent.mp4", sound=0 * videos.sine(1.0))
    damaged = one_clip(tmp_path, "damaged.mp4")
    damaged.video.write_bytes(damaged.video.read_bytes()[:900])
    gone = Entry("gone.mp4", tmp_path / "gone.mp4", tmp_path / "gone.mp4", "")
    short = one_clip(tmp_path, "short.mp4", 0.3)
    broken_sound = replace(one_clip(tmp_path, "nan.mp4"), audio=tmp_path / "nan.wav")
    write_nan(broken_sound.audio)
    wordy = replace(one_clip(tmp_path, "wordy.mp4"), caption="word " * 200)
    entries = [good[0], mute, silent, damaged, gone, short, broken_sound, wordy, good[1]]
    report = build_cache(entries, files, tmp_path / "cache")
    assert report.made == 2
    reasons = {
        "mute.mp4": "no sound track", "silent.mp4": "is silent", "damaged.mp4": "cannot be opened", "gone.mp4": "no file",
        "short.mp4": "Expected 0.64 s", "nan.mp4": "NaN", "wordy.mp4": "tokens long",
    }
    assert [name for name, _ in report.skipped] == list(reasons)
    for name, reason in report.skipped:
        assert reasons[name] in reason


def write_nan(path):
    media.write_audio(path, torch.from_numpy(videos.sine(1.0)), 48_000)
    data = bytearray(path.read_bytes())
    data[-80_000:-79_996] = b"\x00\x00\xc0\x7f"
    path.write_bytes(bytes(data))


def test_when_no_clip_is_good_the_first_reason_is_given(files, tmp_path):
    gone = Entry("gone.mp4", tmp_path / "gone.mp4", tmp_path / "gone.mp4", "")
    with pytest.raises(TrainingError, match="None of the 1 clips can be used. The first is gone.mp4: There is no file"):
        build_cache([gone], files, tmp_path / "cache")


def test_a_cache_of_other_networks_is_refused(world, built, files, models, tmp_path):
    entries = read_dataset(world).entries
    with pytest.raises(TrainingError, match="another teacher .levels, now none.*into another folder"):
        build_cache(entries, files, built)
    with pytest.raises(TrainingError, match="another seconds .15.0, now 0.8"):
        build_cache(entries, files, built, teacher=Levels(), seconds=0.8)
    tensors, _ = checkpoint.read_state_dict(files.vae)
    for part in ("encoder", "decoder"):
        changed = {key: 2 * value if key.startswith(f"{part}.") else value for key, value in tensors.items()}
        save_file(changed, tmp_path / f"{part}.sft")
    with pytest.raises(TrainingError, match="another vae"):
        build_cache(entries, replace(files, vae=tmp_path / "encoder.sft"), built, teacher=Levels())
    # The decoder has no part in what is cached.
    assert build_cache(entries, replace(files, vae=tmp_path / "decoder.sft"), built, teacher=Levels()).kept == 6
    config = FeatureConfig(str(built), 1, 2)
    assert split(config, 0, checkpoint.load_vae(tmp_path / "decoder.sft"))
    with pytest.raises(TrainingError, match="another vae"):
        split(config, 0, checkpoint.load_vae(tmp_path / "encoder.sft"))


def test_a_cache_of_other_networks_is_made_anew_where_that_is_asked_for(files, tmp_path):
    entries, folder = [one_clip(tmp_path)], tmp_path / "cache"
    build_cache(entries, files, folder, teacher=Levels())
    assert build_cache(entries, files, folder, teacher=Levels(), renew=True).kept == 1
    assert build_cache(entries, files, folder, renew=True).made == 1
    cache = shards.open_cache(folder)
    assert cache.identity["teacher"] == "none" and len(cache.clips) == 1


def test_a_full_disk_leaves_what_was_written(world, files, tmp_path, monkeypatch):
    entries = read_dataset(world).entries
    monkeypatch.setattr(caching, "SHARD_CLIPS", 2)
    written = []

    def save(tensors, path, metadata):
        if len(written) == 2:  # the empty text and a shard
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        written.append(path)
        save_file(tensors, path, metadata)

    monkeypatch.setattr(shards, "save_file", save)
    with pytest.raises(TrainingError, match="No space left on device.*goes on from what is there"):
        build_cache(entries, files, tmp_path)
    assert sorted(path.name[:12] for path in tmp_path.iterdir()) == ["cache.json", "empty_text.s", "shard-000000"]
    monkeypatch.setattr(shards, "save_file", save_file)
    assert build_cache(entries, files, tmp_path).kept == 2


@pytest.mark.parametrize("seconds", [0.0, 0.5, 16.0, float("nan")])
def test_pieces_of_impossible_length_are_refused(files, tmp_path, seconds):
    with pytest.raises(TrainingError, match="Expected 0.64 to 15 s"):
        build_cache([], files, tmp_path / "cache", seconds=seconds)


def test_folders_that_are_no_good_cache(built, tmp_path):
    with pytest.raises(TrainingError, match="no cache of clips.*prepare DATA CACHE"):
        shards.open_cache(tmp_path)
    (tmp_path / "cache.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(TrainingError, match="format 99.*reads 1"):
        shards.open_cache(tmp_path)
    (tmp_path / "cache.json").write_text((built / "cache.json").read_text())
    (tmp_path / "shard-000000-0.safetensors").write_bytes(b"cut short")
    with pytest.raises(TrainingError, match="shard-000000.*Delete this file"):
        shards.open_cache(tmp_path)


# Batches


def test_batches_have_one_shape_and_all_their_parts(built):
    source, _ = split(FeatureConfig(str(built), 0, 3), 0)
    lengths = set()
    for number in range(12):
        batch = source(number)
        size, channels, length = batch["mean"].shape
        assert (size, channels) == (3, 8) and batch["logvar"].shape == batch["mean"].shape
        assert batch["visual"].shape[::2] == batch["sync"].shape[::2] == (3, WIDTH)
        assert batch["text"].shape[1:] == batch["empty_text"].shape[1:] and len(batch["empty_text"]) == 1
        assert batch["teacher"].shape == (3, 2 * length, 1) and len(batch["names"]) == 3
        assert all(value.dtype == torch.float32 for name, value in batch.items() if name != "names")
        lengths.add(length)
    assert len(lengths) == 2
    assert source.sizes == FeatureSizes(latent_channels=8, visual_dim=WIDTH, sync_dim=WIDTH, text_dim=WIDTH, teacher=1)


def test_batches_depend_on_seed_and_number_alone(built):
    one, same, other = (split(FeatureConfig(str(built), 0, 2), seed)[0] for seed in (0, 0, 1))
    one(3)
    names = [[source(number)["names"] for number in range(8)] for source in (one, same, other)]
    assert names[0] == names[1] != names[2]
    assert torch.equal(one(5)["mean"], same(5)["mean"])


def test_every_clip_is_equally_likely(built):
    """Four clips of one length and two of another, two at a time."""
    source, _ = split(FeatureConfig(str(built), 0, 2), 0)
    drawn = [name for number in range(300) for name in source(number)["names"]]
    assert all(70 < drawn.count(name) < 130 for name in set(drawn)) and len(set(drawn)) == 6
    assert all(len(set(source(number)["names"])) == 2 for number in range(10))


def test_text_of_a_batch_is_as_if_encoded_together(built, files):
    source, _ = split(FeatureConfig(str(built), 0, 2), 0)
    batch, clap = source(0), checkpoint.load_clap(files.clap, files.tokenizer)
    captions = {record.name: record.caption for record, _ in source.clips}
    together = clap.encode_text([*(captions[name] for name in batch["names"]), ""])[:, :77]
    assert torch.allclose(torch.cat((batch["text"], batch["empty_text"])), together, atol=2e-3)


def test_pieces_of_a_held_out_video_are_all_held_out(files, tmp_path):
    entries = [one_clip(tmp_path, f"{number}.mp4", 1.6) for number in range(3)]
    build_cache(entries, files, tmp_path / "cache", seconds=0.8)
    training, validation = split(FeatureConfig(str(tmp_path / "cache"), 1, 2, ()), 0)
    keys = [{record.key for record, _ in source.clips} for source in (training, validation)]
    assert len(training.clips) == 4 and len(validation.clips) == 2 and not keys[0] & keys[1]
    assert split(FeatureConfig(str(tmp_path / "cache"), 0, 2), 0)[1] is None
    with pytest.raises(TrainingError, match="clips of 3 videos.*more than the 3"):
        split(FeatureConfig(str(tmp_path / "cache"), 3, 2), 0)


# The command


def test_the_command_prepares_and_tells(world, models, tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    one_clip(data, "a.mp4")
    (data / "a.txt").write_text("a tone")
    (data / "b.txt").write_text("of nothing")
    (data / "broken.mp4").write_bytes(b"no video")
    one_clip(data, "ansi.mp4")
    (data / "ansi.txt").write_bytes(b"caf\xe9")
    words = ["prepare", str(data), str(tmp_path / "cache"), "--models", str(models), "--teacher", "log_mel", "--device", "cpu"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(tmp_path / "cache")
    assert "No video belongs to b.txt." in said.err and "Skipped broken.mp4" in said.err
    assert "Skipped ansi.mp4" in said.err and "ansi.txt cannot be read" in said.err
    assert "1 clips are new, 0 were there, 2 were skipped." in said.err
    assert "teacher" in split(FeatureConfig(str(tmp_path / "cache"), 0, 1), 0)[0](0)


@pytest.mark.parametrize("change, message", [
    ({1: "/nowhere"}, "no folder or file /nowhere"), ({4: "/nowhere"}, "no folder /nowhere"),
])
def test_wrong_folders_are_named(world, models, tmp_path, capsys, change, message):
    words = ["prepare", str(world), str(tmp_path), "--models", str(models)]
    assert cli.main([change.get(at, word) for at, word in enumerate(words)]) == 1
    assert message in capsys.readouterr().err
