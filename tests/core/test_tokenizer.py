"""The tokenizer over a small byte-level BPE trained here, with RoBERTa's special tokens and post-processor."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from hunyuan_foley_core.encoders.tokenizer import FoleyTokenizer
from hunyuan_foley_core.errors import CheckpointError, InputError

CORPUS = ["rain on a tin roof", "a dog barks far away", "noisy, harsh", "footsteps on gravel, high-quality"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def train(special=SPECIAL, post_process=True) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = dict(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(**settings))
    if post_process:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer


@pytest.fixture
def tokenizer_file(tmp_path):
    path = tmp_path / "tokenizer.json"
    train().save(str(path))
    return path


def test_pads_jointly_to_the_longest(tokenizer_file):
    tokenizer = FoleyTokenizer.from_file(tokenizer_file)
    ids, mask = tokenizer.encode(["rain on a tin roof, far away", "noisy"])
    alone, _ = tokenizer.encode(["noisy"])
    length = alone.shape[1]
    assert ids.shape == mask.shape and ids.shape[1] > length
    assert ids[1, :length].tolist() == alone[0].tolist()
    assert ids[1, length:].tolist() == [1] * (ids.shape[1] - length)
    assert mask[1].tolist() == [1] * length + [0] * (ids.shape[1] - length)
    assert mask[0].all() and str(ids.dtype) == str(mask.dtype) == "torch.int64"


def test_ids_are_those_of_the_file(tokenizer_file):
    texts = ["a dog barks, \u00e4\u00df \u96e8", ""]
    raw = Tokenizer.from_file(str(tokenizer_file))
    ids, mask = FoleyTokenizer.from_file(tokenizer_file).encode(texts)
    for row, keep, text in zip(ids, mask, texts):
        assert row[keep.bool()].tolist() == raw.encode(text).ids
    assert ids[1, :2].tolist() == [0, 2]


def test_settings_in_the_file_do_not_cut_or_pad(tmp_path):
    """A tokenizer.json may carry the truncation and padding of whoever saved it."""
    foreign = train()
    foreign.enable_truncation(4)
    foreign.enable_padding(length=64, pad_id=3, pad_token="<unk>")
    foreign.save(str(tmp_path / "tokenizer.json"))
    ids, mask = FoleyTokenizer.from_file(tmp_path / "tokenizer.json").encode(["rain on a tin roof"])
    assert ids[0].tolist() == train().encode("rain on a tin roof").ids and mask.all()


def test_too_long_gives_both_counts(tokenizer_file):
    tokenizer = FoleyTokenizer.from_file(tokenizer_file, max_tokens=10)
    assert tokenizer.encode(["x" * 8])[0].shape == (1, 10)
    with pytest.raises(InputError) as error:
        tokenizer.encode(["rain", "x" * 9])
    assert "11 tokens" in str(error.value) and "at most 10" in str(error.value)


def test_no_text_is_an_error(tokenizer_file):
    with pytest.raises(InputError):
        FoleyTokenizer.from_file(tokenizer_file).encode([])


def test_files_that_are_not_this_tokenizer(tmp_path):
    not_json, not_tokenizer, binary = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "c.safetensors"
    not_json.write_text("hello")
    not_tokenizer.write_text('{"vocab": 3}')
    binary.write_bytes(bytes(range(256)))
    other = tmp_path / "other.json"
    train(special=["<unk>", "<s>", "</s>", "<pad>"], post_process=False).save(str(other))
    bare = tmp_path / "bare.json"
    train(post_process=False).save(str(bare))
    for path in (not_json, not_tokenizer, binary, other, bare, tmp_path / "missing.json", tmp_path):
        with pytest.raises(CheckpointError) as error:
            FoleyTokenizer.from_file(path)
        assert str(path) in str(error.value) and "larger_clap_general" in str(error.value)
