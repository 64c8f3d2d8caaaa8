"""CLAP's tokenizer: RoBERTa's byte-level BPE, read from a Hugging Face `tokenizer.json`."""

from os import PathLike
from pathlib import Path

import torch
from tokenizers import Tokenizer

from ..errors import CheckpointError, InputError, WrongFileError

PAD, PAD_ID = "<pad>", 1
SPECIAL_IDS = {"<s>": 0, PAD: PAD_ID, "</s>": 2}
EMPTY_TEXT = [0, 2]  # <s></s>


class FoleyTokenizer:
    """Texts to token ids, padded together. Built with `from_file`.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; its padding and truncation are replaced.
        max_tokens: the most tokens a text may have, its <s> and </s> included.
    """

    def __init__(self, tokenizer: Tokenizer, max_tokens: int = 512):
        self.max_tokens = max_tokens
        self._tokenizer = tokenizer
        tokenizer.no_truncation()
        tokenizer.enable_padding(pad_id=PAD_ID, pad_token=PAD)

    @classmethod
    def from_file(cls, path: str | PathLike, max_tokens: int = 512) -> "FoleyTokenizer":
        """Reads a `tokenizer.json`.

        Raises:
            CheckpointError: no such file, not a tokenizer, or the tokenizer of another model.
        """
        path = Path(path)
        if not path.is_file():
            raise _not_ours(f"There is no tokenizer file `{path}`.")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exceptions, whatever is wrong with the file
            raise _not_ours(f"`{path}` cannot be read as a tokenizer ({error}).") from error
        if {token: tokenizer.token_to_id(token) for token in SPECIAL_IDS} != SPECIAL_IDS:
            raise _not_ours(f"`{path}` is the tokenizer of another model: its <s>, <pad>, </s> are not 0, 1, 2.")
        self = cls(tokenizer, max_tokens)
        if tokenizer.encode("").ids != EMPTY_TEXT:
            raise _not_ours(f"`{path}` does not set texts between <s> and </s>.")
        return self

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and attention mask, both int64 [B,T], T the length of the longest text; mask 1 at tokens, 0 at padding.

        Raises:
            InputError: no text, or one that is longer than `max_tokens`.
        """
        if not texts:
            raise InputError("There is no text to encode.", "Expected at least one; an empty string will do.")
        encodings = self._tokenizer.encode_batch(list(texts))
        input_ids = torch.tensor([encoding.ids for encoding in encodings], dtype=torch.int64)
        attention_mask = torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.int64)
        self._check_lengths(texts, attention_mask.sum(dim=1).tolist())
        return input_ids, attention_mask

    def _check_lengths(self, texts, lengths: list[int]) -> None:
        length, text = max(zip(lengths, texts))
        if length > self.max_tokens:
            raise InputError(
                f"The text starting with \"{text[:40]}\" is {length} tokens long ({len(text)} characters).",
                f"The CLAP text encoder takes at most {self.max_tokens} tokens.",
                "Shorten it.",
            )


def _not_ours(found: str) -> CheckpointError:
    return WrongFileError(
        found,
        "Expected the `tokenizer.json` of laion/larger_clap_general (RoBERTa).",
        "Download that file again and choose it as the tokenizer.",
    )
