"""Encodes text line by line in batches, and decodes the tokens to prove that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from components.shared.base.failure import Failure
from components.shared.text.articles import count_lines, split_articles, split_lines

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
