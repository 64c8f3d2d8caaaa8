"""The small model's encoders: drawn filters, a text tower that learns from the sound, a tokenizer of their own."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import save_file

from hunyuan_foley_core import checkpoint, conditions
from hunyuan_foley_core.data import make_clip
from hunyuan_foley_core.encoders.preprocess import normalise, synchformer_pixels
from hunyuan_foley_core.encoders.synchformer import SynchformerVisualTower
from hunyuan_foley_core.encoders.tokenizer import FoleyTokenizer
from hunyuan_foley_core.train import checkpoints, command, drawn_synchformer
from hunyuan_foley_core.train.encoders import EncodersConfig, EncodersObjective, colour, learn_tokenizer, split_towers
from hunyuan_foley_core.train.errors import TrainingError
from hunyuan_foley_core.train.log import read
from hunyuan_foley_core.train.config import build, read_settings
from hunyuan_foley_core.train.world_clips import WorldClips, WorldConfig, captions


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short run, and its last checkpoint."""
    folder = tmp_path_factory.mktemp("encoders")
    last = command.run("encoders_tiny", [
        f"out={folder}", f"tokenizer={folder / 'tokenizer.json'}", "data.clips=48", "data.held_out=16", "data.batch=16",
        "data.first_seed=3000", "data.seconds=1.0", "loop.steps=40", "loop.warmup_steps=5", "loop.validate_every=40",
        "loop.validation_batches=1", "loop.save_every=40", "loop.log_every=1", "model.clap.vocabulary=320",
        "model.clap.hidden_size=64", "model.clap.mlp_hidden=64", "model.clap.num_layers=1",
    ])
    return folder, last


@pytest.mark.parametrize("part", ("towers.colour", "towers.words"))
def test_the_towers_learn_and_synchformer_stays_as_drawn(run, part):
    folder, last = run
    losses = [line[part] for line in read(folder / "metrics.jsonl") if part in line]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert not [key for key in checkpoints.load(last)["parameters"]["towers"] if key.startswith("synchformer.")]


def test_the_tower_that_sees_can_be_trained_alone(run, tmp_path):
    folder, _ = run
    config = build(EncodersConfig, read_settings(
        command.CONFIGS / "encoders_tiny.toml", [f"tokenizer={folder / 'tokenizer.json'}", "part=siglip2"]
    ))
    objective = EncodersObjective(config)
    assert {name.partition(".")[0] for name in objective.phases[0].parameters} == {"siglip2", "namer"}
    batch = WorldClips(replace(config.data, seconds=1.0, batch=2), range(3000, 3004), config.model.siglip2.image_size)(0)
    assert set(objective.validate(batch, None)) == {"words", "words_spread", "colour_spread"}
    with pytest.raises(TrainingError, match="part is 'clap'.*all, siglip2"):
        replace(config, part="clap")


@pytest.fixture(scope="module")
def towers(run, tmp_path_factory):
    """The three encoders as inference loads them."""
    folder = tmp_path_factory.mktemp("towers")
    for name, tensors in split_towers(checkpoint.read_state_dict(run[1] / "weights.safetensors")[0]).items():
        save_file(tensors, folder / f"{name}.safetensors")
    return (
        checkpoint.load_siglip2(folder / "siglip2.safetensors"), checkpoint.load_synchformer(folder / "synchformer.safetensors"),
        checkpoint.load_clap(folder / "clap.safetensors", run[0] / "tokenizer.json"),
    )


def test_features_tell_clips_and_moments_apart(towers):
    siglip2, synchformer, _ = towers
    clips = [make_clip(seed, 1.0) for seed in range(3100, 3106)]
    frames = torch.stack([torch.stack(list(clip.frames())[:16]) for clip in clips])
    pixels = normalise(torch.stack([synchformer_pixels(clip, synchformer.config.image_size) for clip in frames]))
    tokens = synchformer(rearrange(pixels, "G F C H W -> G C F H W"))
    assert tokens.std((0, 1)).mean() > 0.2 and tokens.std(1).mean() > 0.05  # between moments of one clip
    still = synchformer(rearrange(pixels[:, :1].expand(-1, 16, -1, -1, -1), "G F C H W -> G C F H W"))
    assert still.std(1).mean() < 0.4 * tokens.std(1).mean()
    pictures = siglip2.encode_frames(frames[:, 0])
    assert pictures.std(0).mean() > 0.05


def test_sync_tokens_tell_how_much_moves_in_the_pictures_after_them(towers):
    """Token j of segment s, at offset n: the change towards picture 8 s + j + n + 1, whichever segment says it."""
    frames = torch.stack(list(make_clip(3101, 2.0, size=(48, 48)).frames()))
    tokens = rearrange(towers[1].encode_frames(frames), "(s j) D -> s j D", j=8)[..., :drawn_synchformer.OFFSETS]
    boxes = F.avg_pool2d(frames.float().mean(1, keepdim=True) / 127.5 - 1, drawn_synchformer.BOX)
    change = boxes.diff(dim=0).abs().mean((1, 2, 3))
    segment, step, offset = torch.meshgrid(*map(torch.arange, tokens.shape), indexing="ij")
    expected = change[8 * segment + step + offset]
    assert torch.corrcoef(torch.stack([tokens.flatten(), expected.flatten()]))[0, 1] > 0.99
    assert torch.allclose(tokens[:-1, 7, 1:], tokens[1:, 0, :-1], atol=0.02 * tokens.max())  # across segments
    still = towers[1].encode_frames(frames[:1].expand(32, -1, -1, -1))
    assert still.std(0)[: drawn_synchformer.OFFSETS].max() < 1e-3 and still[:, : drawn_synchformer.OFFSETS].abs().max() < 0.02


def test_a_tower_of_other_sizes_is_refused():
    tower = SynchformerVisualTower(replace(drawn_synchformer.SYNCHFORMER, num_blocks=3, mlp_hidden=128))
    with pytest.raises(TrainingError, match="num_blocks is 3, not 4; mlp_hidden is 128, not 192"):
        drawn_synchformer.draw_synchformer(tower)


def test_inference_encodes_text_with_them(towers):
    text, negative = conditions.encode_text_pair(towers[2], "a wooden ball bounces on the floor")
    assert text.shape == negative.shape and text.isfinite().all()
    assert not torch.allclose(text[:, 1:4], negative[:, 1:4])


def test_the_tokenizer_has_whole_words_of_the_captions_and_spells_the_rest(tmp_path):
    learn_tokenizer(captions(range(50)), 512).save(str(tmp_path / "tokenizer.json"))
    tokenizer = FoleyTokenizer.from_file(tmp_path / "tokenizer.json")
    known, _ = tokenizer.encode(["a wooden ball bounces on the floor, high-quality"])
    spelt, _ = tokenizer.encode(["Zyklop \N{SNOWMAN}"])
    assert known.shape[1] <= 14 and spelt.shape[1] > 8 and 3 not in spelt  # 3 is <unk>


def test_clips_come_with_their_captions_and_the_measured_tag():
    sounds = WorldClips(WorldConfig(3000, 12, 1, seconds=1.0, pictures=2, batch=5), range(3000, 3012), 32)
    batch = sounds(0)
    assert batch["waveform"].shape == (5, 48_000) and len(batch["captions"]) == len(batch["names"]) == 5
    for waveform, text, name in zip(batch["waveform"], batch["captions"], batch["names"]):
        clip = make_clip(int(name.split()[1]), 1.0)
        assert torch.equal(waveform, clip.waveform) and text.startswith(clip.caption[:-1])
        assert text.endswith("high-quality") == clip.tagged
    assert sounds(0)["names"] == batch["names"] != sounds(1)["names"]
    assert batch["picture"].shape == (5, 3, 32, 32) and batch["picture"].dtype == torch.uint8


def test_colour_tells_where_the_energy_lies():
    time = torch.arange(48_000) / 48_000
    low, high = colour(torch.stack([torch.sin(2 * torch.pi * f * time) for f in (300.0, 9000.0)]))
    assert low.argmax() < high.argmax() and (low - colour(0.1 * torch.sin(2 * torch.pi * 300 * time)[None])[0]).max() > 0.9
