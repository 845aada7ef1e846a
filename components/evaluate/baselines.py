"""The baselines that a perplexity is compared with: unigram models of the train split, and published results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.text.articles import count_lines, read_pieces


@dataclass(frozen=True)
class PublishedResult:
    """A published result on the test split of WikiText-2.

    Attributes:
        name: the name of the model.
        value: its perplexity.
        protocol: the protocol whose result can be compared with this value.
        measure: the measure of that protocol that can be compared with it.
        corpus: the corpus on which it was measured.
        note: differences in training that a reader must know.
        source: the publication.
    """

    name: str
    value: float
    protocol: str
    measure: str
    corpus: str
    note: str
    source: str


_OWN = ("wikitext-word", "word_perplexity", "wikitext-2-v1", "trained on it alone")
_ZERO_SHOT = "zero-shot, trained on 40 GB of web text"
REFERENCES = (
    PublishedResult("AWD-LSTM", 65.8, *_OWN, "Merity et al. 2017, arXiv:1708.02182"),
    PublishedResult("AWD-LSTM with MoS", 61.45, *_OWN, "Yang et al. 2018, arXiv:1711.03953"),
    PublishedResult("AWD-LSTM with DOC", 58.03, *_OWN, "Takase et al. 2018, arXiv:1808.10143"),
    PublishedResult("Mogrifier LSTM", 55.1, *_OWN, "Melis et al. 2020, arXiv:1909.01792"),
    PublishedResult("DOC, ensemble of five", 53.09, *_OWN, "Takase et al. 2018, arXiv:1808.10143"),
    PublishedResult(
        "GPT-2 124M, stride 1024", 29.94, "hf-doc", "token_perplexity", "wikitext-2-raw-v1", _ZERO_SHOT,
        "Hugging Face, transformers, Perplexity of fixed-length models",
    ),
    PublishedResult(
        "GPT-2 124M", 37.37, "lm-eval", "word_perplexity", "wikitext-2-raw-v1", _ZERO_SHOT,
        "EleutherAI, lm-evaluation-harness, task wikitext",
    ),
)  # fmt: skip

# The test split of wikitext-2-v1, the text of the following results.
WIKITEXT_2_TEST_SHA256 = "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"
_DYNAMIC = ("wikitext-word+dynamic", "word_perplexity", "wikitext-2-v1", "dynamic evaluation")
_CACHE = ("wikitext-word+cache", "word_perplexity", "wikitext-2-v1", "continuous cache")
ADAPTED_REFERENCES = (
    PublishedResult("AWD-LSTM", 44.3, *_DYNAMIC, "Krause et al. 2018, arXiv:1709.07432"),
    PublishedResult("Mogrifier RLSTM", 38.0, *_DYNAMIC, "Melis 2022, arXiv:2211.01848"),
    PublishedResult("AWD-LSTM", 52.0, *_CACHE, "Merity et al. 2017, arXiv:1708.02182"),
)


@dataclass(frozen=True)
class Unigram:
    """A unigram model of words with add-one smoothing, in which all unseen words share one type.

    Attributes:
        counts: the count of each word; the end of a line counts as a word.
        total: the sum of all counts.
    """

    counts: Counter[str]
    total: int

    @classmethod
    def of(cls, pieces: Iterable[str]) -> Unigram:
        """The model of a text that is given in pieces of whole lines."""
        counts: Counter[str] = Counter()
        for piece in pieces:
            counts.update(_words(piece))
        return cls(counts, counts.total())

    def perplexity(self, text: str) -> float:
        """Returns the perplexity per word; the end of a line counts as a word."""
        words, smoothed = _words(text), math.log(self.total + len(self.counts) + 1)
        nll = math.fsum(count * (smoothed - math.log(self.counts[word] + 1)) for word, count in words.items())
        return math.exp(nll / words.total()) if words else math.nan


@dataclass(frozen=True)
class ByteUnigram:
    """A unigram model of bytes with add-one smoothing, for a text that is not divided into words.

    Attributes:
        counts: the count of each byte, int64 [256].
    """

    counts: np.ndarray

    @classmethod
    def of(cls, pieces: Iterable[str]) -> ByteUnigram:
        """The model of a text that is given in pieces."""
        return cls(sum((_bytes(piece) for piece in pieces), np.zeros(256, np.int64)))

    def bits_per_byte(self, text: str) -> float:
        """Returns the average number of bits per byte of a text."""
        seen = _bytes(text)
        bits = np.log2(self.counts.sum() + 256) - np.log2(self.counts + 1)
        return float((seen * bits).sum() / seen.sum()) if seen.sum() else math.nan


def baselines(train: Path, validation: str, test: str) -> dict[str, Any]:
    """Computes the perplexities of the word unigram, with the words of `wikitext-word`, and the byte unigram.

    Args:
        train: the file of the train split, which is read in pieces.
        validation, test: the texts that are scored.
    """
    unigram, of_bytes = Unigram.of(_pieces(train)), ByteUnigram.of(_pieces(train))
    return {
        "unigram": {
            "validation": unigram.perplexity(validation),
            "test": unigram.perplexity(test),
            "types": len(unigram.counts),
        },
        "byte_unigram": {"validation": of_bytes.bits_per_byte(validation), "test": of_bytes.bits_per_byte(test)},
    }


def _pieces(path: Path) -> Iterator[str]:
    return (piece.decode() for piece in read_pieces(path))


def _bytes(text: str) -> np.ndarray:
    return np.bincount(np.frombuffer(text.encode(), dtype=np.uint8), minlength=256)


def _words(text: str) -> Counter[str]:
    words = Counter(text.split())
    words["\n"] += count_lines(text)
    return +words
