"""Trains a byte-level BPE tokenizer, and encodes text line by line so that decoding gives back exactly the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from components.shared.base.failure import Failure
from components.shared.text.articles import Block, article_blocks, split_lines

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"
# The lines per call keep all cores busy and fit into their caches, see tests/benchmarks/tokenize_speed.py.
CHUNK = 1024


@dataclass(frozen=True)
class Encoded:
    """Some lines as token ids.

    Attributes:
        ids: the token ids of the lines in order, [tokens], without special tokens.
        articles: the positions in `ids` at which articles begin.
    """

    ids: np.ndarray
    articles: list[int]


def train_bpe(pieces: Iterable[str], *, vocab_size: int, min_frequency: int) -> Tokenizer:
    """Trains a tokenizer. The same text and settings give the same tokenizer, byte for byte.

    It first splits after each newline, so that encoding line by line gives the same tokens as encoding the whole text.
    Every byte is in its vocabulary, so there are no unknown tokens and decoding is exact.

    Args:
        pieces: the train split, in pieces of whole lines.
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
    tokenizer.train_from_iterator(chain.from_iterable(map(split_lines, pieces)), trainer)
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


def encode(tokenizer: Tokenizer, pieces: Iterable[str], dtype: np.dtype) -> Iterator[Encoded]:
    """Encodes a text line by line. Text that looks like a special token is encoded as ordinary text.

    Args:
        tokenizer: the tokenizer.
        pieces: the text in pieces of whole lines.
        dtype: the type of the ids.

    Yields:
        The tokens of some lines at a time.

    Raises:
        Failure: decoding the tokens does not give back the text.
    """
    token_bytes = _TokenBytes.of(tokenizer)
    spelled = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    try:
        for block, encodings in _encode_ahead(tokenizer, _chunks(pieces)):
            lines = [encoding.ids for encoding in encodings]
            ends = np.concatenate([[0], np.cumsum(np.fromiter(map(len, lines), np.int64, len(lines)))])
            ids = np.fromiter(chain.from_iterable(lines), dtype, int(ends[-1]))
            if token_bytes is None or token_bytes.join(ids) != "".join(block.lines).encode():
                _check(tokenizer, block.lines, lines)
            yield Encoded(ids, ends[[first for first, _ in block.starts]].tolist() if block.starts else [])
    finally:
        tokenizer.encode_special_tokens = spelled


def _chunks(pieces: Iterable[str]) -> Iterator[Block]:
    for block in article_blocks(pieces):
        for start in range(0, len(block.lines), CHUNK):
            end = start + CHUNK
            starts = [(line - start, title) for line, title in block.starts if start <= line < end]
            yield Block(block.lines[start:end], starts)


def _encode_ahead(tokenizer: Tokenizer, chunks: Iterable[Block]) -> Iterator[tuple[Block, list[Encoding]]]:
    """Encodes the next lines while the caller works on those before, so that no core is idle."""
    with ThreadPoolExecutor(1) as thread:
        before: tuple[Block, Future[list[Encoding]]] | None = None
        for block in chunks:
            encoded = thread.submit(tokenizer.encode_batch_fast, block.lines, add_special_tokens=False)
            if before:
                yield before[0], before[1].result()
            before = block, encoded
        if before:
            yield before[0], before[1].result()


@dataclass(frozen=True)
class _TokenBytes:
    """The bytes of each token of a byte-level tokenizer.

    Joining them tells in a fraction of the time of decoding whether the tokens give back the text.

    Attributes:
        data: the bytes of all tokens in the order of their ids.
        starts: the offset of each token in them.
        lengths: the number of bytes of each token.
    """

    data: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _TokenBytes | None:
        """The bytes of the tokens, or None if the tokenizer is not of this kind."""
        if not isinstance(tokenizer.decoder, decoders.ByteLevel):
            return None
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)
        if not vocabulary or any(character not in _BYTE_OF for token in vocabulary for character in token):
            return None
        # Ids without a token, and added tokens, have no bytes here: text that has them is decoded instead.
        tokens = [b""] * (max(tokenizer.get_vocab().values()) + 1)
        for token, number in vocabulary.items():
            tokens[number] = bytes(map(_BYTE_OF.__getitem__, token))
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        return cls(np.frombuffer(b"".join(tokens), np.uint8), np.cumsum(lengths) - lengths, lengths)

    def join(self, ids: np.ndarray) -> bytes:
        """The bytes of some tokens."""
        lengths = self.lengths[ids]
        ends = np.cumsum(lengths)
        shifts = np.repeat(self.starts[ids] - (ends - lengths), lengths)
        return self.data[shifts + np.arange(len(shifts))].tobytes()


def _bytes_of_characters() -> dict[str, int]:
    """The byte for which each character of a byte-level token stands, as in GPT-2: one that can be printed for itself,
    the others for characters from U+0100 on."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


_BYTE_OF = _bytes_of_characters()


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
