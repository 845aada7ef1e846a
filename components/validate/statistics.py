"""Computes statistics of a text, which are compared with those of another corpus."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from components.validate.corpus import Corpus

STATISTICS = (
    "size in words",
    "words per line",
    "words per article",
    "characters per word",
    "distinct words",
    "unk rate",
    "words with a digit",
)
FREQUENT = 2_000
SAMPLE = 50_000
OTHER = ""


def text_statistics(corpus: Corpus) -> dict[str, float]:
    """Computes the values of `STATISTICS` for the train split.

    `distinct words` is the share of words that are new among the first 50,000, so that corpora of different sizes can
    be compared.
    """
    of = corpus.splits["train"]
    words, count = of.words, of.words.total
    counts = words.counts_for(len(corpus.vocabulary))
    characters = np.fromiter(map(len, corpus.vocabulary), np.int64)
    with_digit = np.fromiter((any(map(str.isdigit, word)) for word in corpus.vocabulary), bool)
    values = (
        float(count),
        count / max(len(of.lines), 1),
        count / max(len(of.articles.titles), 1),
        float((characters * counts).sum() / max(count, 1)),
        np.searchsorted(words.first_places, SAMPLE) / max(min(count, SAMPLE), 1),
        unknown_rate(corpus, "train"),
        float(counts[with_digit].sum() / max(count, 1)),
    )
    return dict(zip(STATISTICS, values, strict=True))


def word_shares(corpus: Corpus) -> dict[str, float]:
    """Computes the shares of the most frequent words of the train split. The key "" has that of all other words."""
    words, spelled = corpus.splits["train"].words, list(corpus.vocabulary)
    counts = words.counts[words.first_seen]
    top = np.argsort(-counts, kind="stable")[:FREQUENT]
    shares = {spelled[words.first_seen[index]]: float(counts[index] / words.total) for index in top}
    return {**shares, OTHER: max(0.0, 1.0 - sum(shares.values()))}


def divergence(ours: Mapping[str, float], theirs: Mapping[str, float]) -> float:
    """Computes the Jensen-Shannon divergence of two word distributions in bits: 0 if they are equal, at most 1.

    A word that is in only one distribution has a share of 0 in the other, so the value is slightly too high for texts
    whose less frequent words differ.
    """
    named = list(ours.keys() | theirs.keys())
    p = np.array([ours.get(word, 0.0) for word in named])
    q = np.array([theirs.get(word, 0.0) for word in named])
    middle = (p + q) / 2
    return float((_relative(p, middle) + _relative(q, middle)) / 2)


def _relative(p: np.ndarray, q: np.ndarray) -> float:
    held = p > 0
    return float((p[held] * np.log2(p[held] / q[held])).sum())


def distinct_words(corpus: Corpus, split: str, points: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Counts the distinct words among the first n words of a split, for evenly spaced values of n."""
    words = corpus.splits[split].words
    read = np.linspace(0, words.total, points).astype(np.int64)
    return read, np.searchsorted(words.first_places, read)


def unknown_rate(corpus: Corpus, split: str) -> float:
    """Computes the share of the words of a split that are `<unk>`."""
    words = corpus.splits[split].words
    return float(words.counts[corpus.vocabulary.unknown] / words.total) if words.total else 0.0


def unseen_rate(corpus: Corpus, split: str) -> float:
    """Computes the share of the words of a split that the train split does not contain."""
    words, size = corpus.splits[split].words, len(corpus.vocabulary)
    taught = corpus.splits["train"].words.counts_for(size) > 0
    return float(1.0 - words.counts_for(size)[taught].sum() / words.total) if words.total else 0.0
