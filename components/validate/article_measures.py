"""Measures the articles of a split while it is read."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np

from components.shared.text.articles import Block
from components.shared.text.units import Unit
from components.validate.overlap import RUN
from components.validate.vocabulary import Vocabulary


class ArticleMeasures:
    """The articles of one split, in order.

    Attributes:
        titles: the titles; "" for an article without one.
        first_lines: the number of lines of the text before the article.
        words: the number of words, with the title.
        unknown: the number of `<unk>` among them.
        bodies: a digest of the words below the title without case; None if there are too few to compare.
    """

    def __init__(self, unit: Unit):
        self.titles: list[str] = []
        self.first_lines: list[int] = []
        self.words: list[int] = []
        self.unknown: list[int] = []
        self.bodies: list[bytes | None] = []
        self._unit = unit
        self._lines = 0
        self._body: Any = None
        self._title_words = 0
        self._body_words = 0

    def add(self, block: Block, counts: np.ndarray, numbers: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
        """Measures the next lines.

        Args:
            block: the lines.
            counts: the number of words on each line.
            numbers: the words of all lines.
            vocabulary: their vocabulary.

        Returns:
            The index of the article of each word, int32 [words].
        """
        ends = np.concatenate([[0], np.cumsum(counts)])
        article_of = np.empty(len(numbers), np.int32)
        folded, unknown = vocabulary.without_case(numbers), numbers == vocabulary.unknown
        starts = dict(block.starts)
        for first, last in pairwise(sorted({0, *starts, len(block.lines)})):
            if first in starts:
                self.first_lines.append(self._lines + first)
                self._begin(starts[first], "".join(block.lines[first : first + 2]))
            begin, end = int(ends[first]), int(ends[last])
            article_of[begin:end] = len(self.titles) - 1
            self.words[-1] += end - begin
            self.unknown[-1] += int(np.count_nonzero(unknown[begin:end]))
            below = min(begin + self._title_words, end)
            self._title_words -= below - begin
            self._body_words += end - below
            self._body.update(folded[below:end].tobytes())
        self._lines += len(block.lines)
        return article_of

    def close(self) -> None:
        """Ends the last article."""
        if self._body is not None:
            self.bodies.append(self._body.digest() if self._body_words >= RUN[self._unit] else None)
        self._body = None

    def _begin(self, title: str, head: str) -> None:
        self.close()
        self.titles.append(title)
        self.words.append(0)
        self.unknown.append(0)
        heading = f" = {title} = "
        parts = heading.split() if title and heading in head else []
        self._title_words = len(parts) if self._unit == "word" else sum(map(len, parts))
        self._body, self._body_words = hashlib.blake2b(digest_size=16), 0
