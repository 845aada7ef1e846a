"""Trains a byte-level BPE tokenizer, and encodes text line by line so that decoding gives back exactly the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from components.shared.base.failure import Failure
from components.shared.text.articles import count_lines, split_articles, split_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
# The lines per call keep all cores busy and fit into their caches, see tests/benchmarks/tokenize_speed.py.
CHUNK = 1024


@dataclass(frozen=True)
class Encoded:
    """A split as token ids.

    Attributes:
        ids: the token ids of the text in order, [tokens], without special tokens.
        articles: the offsets of the starts of the articles, int64 [articles + 1]; the last is the number of tokens.
    """

    ids: np.ndarray
    articles: np.ndarray


def train_bpe(text: str, *, vocab_size: int, min_frequency: int) -> Tokenizer:
    """Trains a tokenizer. The same text and settings give the same tokenizer, byte for byte.

    It first splits after each newline, so that encoding line by line gives the same tokens as encoding the whole text.
    Every byte is in its vocabulary, so there are no unknown tokens and decoding is exact.

    Args:
        text: the train split.
        vocab_size: the number of entries, including the end of text (id 0). There are fewer if the text has no more
            pairs.
        min_frequency: the number of occurrences that a pair needs to be merged.
    """
    tokenizer = Tokenizer(models.BPE())
    cut = pre_tokenizers.Split("\n", "merged_with_previous")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(split_lines(text), trainer)
    return tokenizer


def as_fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """Wraps the tokenizer for transformers. A padding token would mask the end of text, so there is none."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def dtype_for(vocab_size: int) -> np.dtype:
    """Returns a little-endian type of two bytes if the vocabulary fits, else of four bytes."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def encode(tokenizer: Tokenizer, text: str, dtype: np.dtype) -> Encoded:
    """Encodes a text line by line. Text that looks like a special token is encoded as ordinary text.

    Raises:
        Failure: decoding the tokens does not give back the text.
    """
    lines = split_lines(text)
    lengths, parts = [], []
    for ids in _encode_chunks(tokenizer, lines):
        lengths += [len(line) for line in ids]
        parts.append(np.fromiter(chain.from_iterable(ids), dtype=dtype))
    line_starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    first_lines = np.cumsum([0, *(count_lines(article.text) for article in split_articles(text))])
    return Encoded(ids=np.concatenate(parts), articles=line_starts[first_lines].astype(np.int64))


def _encode_chunks(tokenizer: Tokenizer, lines: list[str]) -> Iterator[list[list[int]]]:
    spelled = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        for start in range(0, len(lines), CHUNK):
            chunk = lines[start : start + CHUNK]
            ids = [one.ids for one in tokenizer.encode_batch_fast(chunk, add_special_tokens=False)]
            _check(tokenizer, chunk, ids)
            yield ids
    finally:
        tokenizer.encode_special_tokens = spelled


def _check(tokenizer: Tokenizer, lines: list[str], ids: list[list[int]]) -> None:
    for line, decoded in zip(lines, tokenizer.decode_batch(ids, skip_special_tokens=False), strict=True):
        if decoded != line:
            raise Failure(
                f"The tokenizer loses text: {_around(line, decoded)} is decoded as {_around(decoded, line)}",
                where="tokenize.tokenizer",
                remedy="use a byte-level tokenizer that decodes exactly, such as bpe or openai-community/gpt2",
            )


def _around(text: str, other: str) -> str:
    """Returns the part of the text around the first difference from the other text."""
    at = next((i for i, (ours, theirs) in enumerate(zip(text, other, strict=False)) if ours != theirs), len(other))
    return repr(text[max(0, at - 10) : at + 20])
