"""Measures the overlap of splits by runs of eight words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from components.shared.text.units import Unit
from components.validate.corpus import SplitText

# The number of words in a run; a word of Chinese has 1.5 characters on average.
RUN: dict[Unit, int] = {"word": 8, "byte": 16}
_ODD = np.uint64(0x9E3779B97F4A7C15)
_NONE = np.empty(0, np.uint64)


@dataclass(frozen=True)
class Overlap:
    """The overlap of an article with other splits.

    Attributes:
        share: the share of its distinct runs that other splits contain, from 0 to 1.
        twin: the split and the title of the article that contains most of these runs; None if there is none.
    """

    share: float
    twin: tuple[str, str] | None


def overlaps(splits: Sequence[SplitText]) -> dict[str, list[Overlap]]:
    """Measures the overlap of each article with the earlier splits.

    A copy with a few changed words keeps most of its runs of eight words, while two articles on the same subject share
    few. Runs are compared by 64-bit hashes; one that spans two articles does not count.
    """
    earlier: list[_Index] = []
    found = {}
    for split in splits:
        runs, article_of = _runs(split)
        bounds = np.searchsorted(article_of, np.arange(len(split.articles) + 1))
        found[split.name] = [_overlap(runs[start:end], earlier) for start, end in pairwise(bounds)]
        if split is not splits[-1]:
            known, first = np.unique(runs, return_index=True)
            titles = [(split.name, article.title) for article in split.articles]
            earlier.append(_Index(known, article_of[first], titles))
    return found


@dataclass(frozen=True)
class _Index:
    """The sorted distinct runs of a split, the first article that contains each run, and the titles of articles."""

    runs: np.ndarray
    article_of: np.ndarray
    titles: list[tuple[str, str]]


def _overlap(runs: np.ndarray, earlier: list[_Index]) -> Overlap:
    mine = np.unique(runs) if earlier else runs
    found = np.zeros(len(mine), dtype=bool)
    twin, most = None, 0
    for index in earlier:
        if not len(mine) or not len(index.runs):
            continue
        place = np.searchsorted(index.runs, mine).clip(max=len(index.runs) - 1)
        here = index.runs[place] == mine
        found |= here
        shared = np.bincount(index.article_of[place[here]], minlength=1)
        if shared.max() > most:
            twin, most = index.titles[int(shared.argmax())], int(shared.max())
    return Overlap(float(found.mean()) if len(mine) else 0.0, twin)


def _runs(split: SplitText) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hash of every run of words within one article, and the index of that article, in order."""
    length = RUN[split.unit]
    count = len(split.words) - length + 1
    if count <= 0:
        return _NONE, np.empty(0, np.int64)
    mixed = _mix(split.words.astype(np.uint64))
    hashes = np.zeros(count, np.uint64)
    for offset in range(length):
        hashes = hashes * _ODD + mixed[offset : offset + count]
    article_of = np.repeat(np.arange(len(split.articles)), np.diff(split.article_bounds))
    whole = article_of[:count] == article_of[length - 1 :]
    return hashes[whole], article_of[:count][whole]


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads small numbers over 64 bits (the finaliser of splitmix64)."""
    values = (values + np.uint64(1)) * _ODD
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
