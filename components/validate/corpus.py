"""The corpus as the checks see it: per split the text, its words as numbers, and where lines and articles lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.articles import SPLIT_FILE, SPLITS, Article, count_lines, split_articles, split_lines
from components.shared.failure import Failure

UNKNOWN = "<unk>"
_UNREADABLE = "�"


@dataclass(frozen=True)
class Split:
    """One split of the corpus.

    Attributes:
        name: train, validation or test.
        text: decoded as UTF-8, with U+FFFD where that failed.
        unreadable: line numbers, from 1, to the number of places on that line that are not UTF-8.
        words: (words,) int64, the words of the text in order as numbers into `Corpus.vocabulary`.
    """

    name: str
    text: str
    unreadable: dict[int, int]
    words: np.ndarray

    @cached_property
    def lines(self) -> list[str]:
        return split_lines(self.text)

    @cached_property
    def articles(self) -> list[Article]:
        return split_articles(self.text)

    @cached_property
    def line_words(self) -> np.ndarray:
        """(lines,) the number of words on each line."""
        return np.array([len(line.split()) for line in self.lines], dtype=np.int64)

    @cached_property
    def article_bounds(self) -> np.ndarray:
        """(articles + 1,) offsets into `words`."""
        ends = np.cumsum([0, *(count_lines(article.text) for article in self.articles)])
        return np.concatenate([[0], np.cumsum(self.line_words)])[ends]


@dataclass(frozen=True)
class Corpus:
    """All splits, with one vocabulary.

    Attributes:
        facts: what the step that fetched it found out.
        splits: by name, in the order of `SPLITS`.
        vocabulary: every word of the corpus, in order of appearance.
    """

    facts: dict[str, Any]
    splits: dict[str, Split]
    vocabulary: list[str]

    @property
    def has_titles(self) -> bool:
        """Whether this is text in WikiText's format: some split begins with a title, as all of them should then."""
        return any(split.articles[0].title for split in self.splits.values() if split.articles)

    @cached_property
    def unknown(self) -> int:
        """The number of `<unk>` in the vocabulary, or one that no word has."""
        return self.vocabulary.index(UNKNOWN) if UNKNOWN in self.vocabulary else len(self.vocabulary)


def read_corpus(folder: Path, facts: dict[str, Any]) -> Corpus:
    """Reads the splits of a corpus.

    Raises:
        Failure: a split is missing.
    """
    if missing := [split for split in SPLITS if not (folder / SPLIT_FILE[split]).is_file()]:
        raise Failure(
            f"The expectation 'every split is there' failed: saw no {' and no '.join(missing)}, wanted"
            f" {', '.join(SPLITS)}",
            where=str(folder),
            remedy="mend the corpus and run again",
        )
    read = {split: _decode((folder / SPLIT_FILE[split]).read_bytes()) for split in SPLITS}
    words = {split: text.split() for split, (text, _) in read.items()}
    number: dict[str, int] = {}
    for split in SPLITS:
        for word in dict.fromkeys(words[split]):
            number.setdefault(word, len(number))
    splits = {
        split: Split(split, text, unreadable, np.fromiter(map(number.__getitem__, words[split]), np.int64))
        for split, (text, unreadable) in read.items()
    }
    return Corpus(facts=facts, splits=splits, vocabulary=list(number))


def _decode(data: bytes) -> tuple[str, dict[int, int]]:
    """The text, and how many places a line holds that are not UTF-8, by number of the line."""
    text = data.decode("utf-8", errors="replace")
    if text.count(_UNREADABLE) == data.count(_UNREADABLE.encode()):
        return text, {}
    places = {
        number: line.decode("utf-8", errors="replace").count(_UNREADABLE) - line.count(_UNREADABLE.encode())
        for number, line in enumerate(data.split(b"\n"), start=1)
    }
    return text, {number: count for number, count in places.items() if count}
