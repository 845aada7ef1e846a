"""Measures the overlap of splits by runs of eight words.

The runs of the splits that are held out are kept. The train split, which may be much larger, is compared with them
while it is read, so of its runs only those are kept that occur in another split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np

from components.shared.text.articles import HELD_OUT, SPLITS
from components.shared.text.units import Unit

# The number of words in a run, a power of two; a word of Chinese has 1.5 characters on average.
RUN: dict[Unit, int] = {"word": 8, "byte": 16}
_MULTIPLIER = 0x9E3779B97F4A7C15
_WORD = 1 << 64
# Slots of the table for each wanted run. A table in which most slots are free rejects most other runs at once.
_SLOTS = 16


@dataclass(frozen=True)
class Overlap:
    """The overlap of an article with other splits.

    Attributes:
        share: the share of its distinct runs that other splits contain, from 0 to 1.
        twin: the split and the title of the article that contains most of these runs; None if there is none.
    """

    share: float
    twin: tuple[str, str] | None


class RunObserver(Protocol):
    """Something that takes the words of a split, in order."""

    def add(self, words: np.ndarray, article_of: np.ndarray) -> None:
        """Takes the numbers of the next words, and the index of the article of each."""


class RunCollector:
    """The hash of every run of words within one article of a split, and the index of that article, in order."""

    def __init__(self, unit: Unit):
        self._runs = _Runs(unit)
        self._found: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, words: np.ndarray, article_of: np.ndarray) -> None:
        self._found.append(self._runs.next(words, article_of))

    @property
    def hashes(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.uint64), *(hashes for hashes, _ in self._found)])

    @property
    def article_of(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.int32), *(articles for _, articles in self._found)])

    def index(self, titles: list[tuple[str, str]]) -> _Index:
        """The distinct runs, for comparison with the next split."""
        runs, first = np.unique(self.hashes, return_index=True)
        return _Index(runs, self.article_of[first], titles)


class RunFinder:
    """The runs of a split that other splits contain, and the first article that contains each.

    Args:
        unit: the unit of the corpus.
        others: the runs of the other splits.
    """

    def __init__(self, unit: Unit, others: Sequence[RunCollector]):
        self._runs = _Runs(unit)
        self._wanted = np.unique(np.concatenate([each.hashes for each in others]))
        self._first = np.full(len(self._wanted), -1, np.int32)
        bits = max(1, (_SLOTS * len(self._wanted)).bit_length())
        self._shift = np.uint64(64 - bits)
        self._taken = np.zeros(1 << bits, dtype=bool)
        self._taken[self._wanted >> self._shift] = True

    def add(self, words: np.ndarray, article_of: np.ndarray) -> None:
        hashes, articles = self._runs.next(words, article_of)
        likely = np.flatnonzero(self._taken[hashes >> self._shift])
        if not len(likely):
            return
        hashes, articles = hashes[likely], articles[likely]
        place = np.searchsorted(self._wanted, hashes).clip(max=len(self._wanted) - 1)
        new = (self._wanted[place] == hashes) & (self._first[place] < 0)
        # Of several assignments to one place the last one remains, here that of the first article.
        self._first[place[new][::-1]] = articles[new][::-1]

    def index(self, titles: list[tuple[str, str]]) -> _Index:
        """The runs that were found, for comparison with the splits that contain them."""
        found = self._first >= 0
        return _Index(self._wanted[found], self._first[found], titles)


def overlaps(
    train: RunFinder, held_out: Mapping[str, RunCollector], titles: Mapping[str, list[str]]
) -> dict[str, list[Overlap]]:
    """Measures the overlap of each article with the earlier splits.

    A copy with a few changed words keeps most of its runs of eight words, while two articles on the same subject share
    few. Runs are compared by 64-bit hashes; one that spans two articles does not count.

    Args:
        train: the runs of the train split that the others contain.
        held_out: the runs of the other splits by name.
        titles: the titles of the articles of each split.
    """
    named = {name: [(name, title) for title in titles[name]] for name in SPLITS}
    earlier = [train.index(named[SPLITS[0]])]
    found = {SPLITS[0]: [Overlap(0.0, None)] * len(titles[SPLITS[0]])}
    for name in HELD_OUT:
        runs, article_of = held_out[name].hashes, held_out[name].article_of
        bounds = np.searchsorted(article_of, np.arange(len(titles[name]) + 1))
        found[name] = [_overlap(runs[start:end], earlier) for start, end in pairwise(bounds)]
        if name != HELD_OUT[-1]:
            earlier.append(held_out[name].index(named[name]))
    return found


@dataclass(frozen=True)
class _Index:
    """Sorted distinct runs of a split, the first article that contains each run, and the titles of articles."""

    runs: np.ndarray
    article_of: np.ndarray
    titles: list[tuple[str, str]]


def _overlap(runs: np.ndarray, earlier: list[_Index]) -> Overlap:
    mine = np.unique(runs)
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


class _Runs:
    """Hashes the runs of words of a split that is given in pieces."""

    def __init__(self, unit: Unit):
        self.length = RUN[unit]
        self._words = np.empty(0, np.uint64)  # the last words of the piece before, mixed
        self._articles = np.empty(0, np.int32)

    def next(self, words: np.ndarray, article_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the hash and the article of each run that ends in this piece and lies within one article."""
        hashes = np.concatenate([self._words, _mix(words.astype(np.uint64))])
        articles = np.concatenate([self._articles, article_of])
        self._words, self._articles = hashes[1 - self.length :], articles[1 - self.length :]
        if len(articles) < self.length:
            return np.empty(0, np.uint64), np.empty(0, np.int32)
        reach, factor = 1, _MULTIPLIER
        while reach < self.length:  # two neighbouring runs become one that is twice as long
            hashes = hashes[:-reach] * np.uint64(factor) + hashes[reach:]
            reach, factor = 2 * reach, factor * factor % _WORD
        first = articles[: len(hashes)]
        whole = first == articles[self.length - 1 :]
        return hashes[whole], first[whole]


def _mix(values: np.ndarray) -> np.ndarray:
    """Spreads small numbers over 64 bits (the finaliser of splitmix64)."""
    values = (values + np.uint64(1)) * np.uint64(_MULTIPLIER)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
