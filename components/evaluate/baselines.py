"""What a perplexity is held against: unigram models of the train split, and published results."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.shared.text.articles import count_lines


@dataclass(frozen=True)
class PublishedResult:
    """A published result on the test split of WikiText-2.

    Attributes:
        name: of the model.
        value: its perplexity.
        protocol: of ours that gives a number to set beside it.
        measure: which of our numbers that is.
        corpus: of ours on which it was measured.
        note: what sets it apart.
        source: where it was published.
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


@dataclass(frozen=True)
class Unigram:
    """Word frequencies of a text with add-one smoothing: all words never seen share one type.

    Attributes:
        counts: of each word; the end of a line counts as a word.
        total: of all counts.
    """

    counts: Counter[str]
    total: int

    @classmethod
    def of(cls, text: str) -> Unigram:
        counts = _words(text)
        return cls(counts, counts.total())

    def perplexity(self, text: str) -> float:
        """Perplexity a word, the ends of lines among them."""
        words, smoothed = _words(text), math.log(self.total + len(self.counts) + 1)
        nll = math.fsum(count * (smoothed - math.log(self.counts[word] + 1)) for word, count in words.items())
        return math.exp(nll / words.total()) if words else math.nan


@dataclass(frozen=True)
class ByteUnigram:
    """Frequencies of bytes with add-one smoothing, for a text whose words mean nothing.

    Attributes:
        counts: int64 [256].
    """

    counts: np.ndarray

    @classmethod
    def of(cls, text: str) -> ByteUnigram:
        return cls(_bytes(text))

    def bits_per_byte(self, text: str) -> float:
        """Bits that a byte of a text takes on average."""
        seen = _bytes(text)
        bits = np.log2(self.counts.sum() + 256) - np.log2(self.counts + 1)
        return float((seen * bits).sum() / seen.sum()) if seen.sum() else math.nan


def baselines(train: str, validation: str, test: str) -> dict[str, Any]:
    """The word perplexities of a unigram, as protocol `wikitext-word` counts words, and the bits of one of bytes."""
    unigram, of_bytes = Unigram.of(train), ByteUnigram.of(train)
    return {
        "unigram": {
            "validation": unigram.perplexity(validation),
            "test": unigram.perplexity(test),
            "types": len(unigram.counts),
        },
        "byte_unigram": {"validation": of_bytes.bits_per_byte(validation), "test": of_bytes.bits_per_byte(test)},
    }


def _bytes(text: str) -> np.ndarray:
    return np.bincount(np.frombuffer(text.encode(), dtype=np.uint8), minlength=256)


def _words(text: str) -> Counter[str]:
    words = Counter(text.split())
    words["\n"] += count_lines(text)
    return +words
