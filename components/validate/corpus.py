"""Reads the corpus for the checks: the text of each split, its word ids, and the bounds of lines and articles.

In a text without spaces between words, the parts between white space are lines or phrases that do not repeat. There
each character counts as a word, so that repetition, leakage and another language are still found.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.base.failure import Failure
from components.shared.text.articles import (
    SPLIT_FILE,
    SPLITS,
    Article,
    count_lines,
    count_words,
    split_articles,
    split_lines,
)
from components.shared.text.units import Unit, unit_of

UNKNOWN = "<unk>"
_UNREADABLE = "�"


@dataclass(frozen=True)
class SplitText:
    """One split of the corpus.

    Attributes:
        name: train, validation or test.
        text: the text, decoded as UTF-8 with U+FFFD for invalid bytes.
        unreadable: the number of invalid places by line number, which starts at 1.
        words: the words of the text in order, as indices into `Corpus.vocabulary`, int64 (words,).
        unit: the unit of the corpus, see `Corpus`.
    """

    name: str
    text: str
    unreadable: dict[int, int]
    words: np.ndarray
    unit: Unit = "word"

    @cached_property
    def lines(self) -> list[str]:
        return split_lines(self.text)

    @cached_property
    def articles(self) -> list[Article]:
        return split_articles(self.text)

    @cached_property
    def line_words(self) -> np.ndarray:
        """The number of words on each line, (lines,)."""
        return np.array([count_parts(line, self.unit) for line in self.lines], dtype=np.int64)

    @cached_property
    def article_bounds(self) -> np.ndarray:
        """The offsets of the articles in `words`, (articles + 1,)."""
        ends = np.cumsum([0, *(count_lines(article.text) for article in self.articles)])
        return np.concatenate([[0], np.cumsum(self.line_words)])[ends]


@dataclass(frozen=True)
class Corpus:
    """All splits, with one vocabulary.

    Attributes:
        metadata: the metadata from the download step.
        splits: the splits by name, in the order of `SPLITS`.
        vocabulary: all distinct words of the corpus.
        unit: "byte" if each character counts as a word, which the train split decides.
    """

    metadata: dict[str, Any]
    splits: dict[str, SplitText]
    vocabulary: list[str]
    unit: Unit = "word"

    @property
    def words_are(self) -> str:
        """The name of the counted unit in messages."""
        return "words" if self.unit == "word" else "characters"

    @property
    def has_titles(self) -> bool:
        """Whether the text is in WikiText's format: if one split begins with a title, all splits should."""
        return any(split.articles[0].title for split in self.splits.values() if split.articles)

    @cached_property
    def unknown(self) -> int:
        """The index of `<unk>` in the vocabulary, or an index that no word has."""
        return self.vocabulary.index(UNKNOWN) if UNKNOWN in self.vocabulary else len(self.vocabulary)


def read_corpus(folder: Path, metadata: dict[str, Any]) -> Corpus:
    """Reads the splits of a corpus.

    Raises:
        Failure: a split is missing.
    """
    if missing := [split for split in SPLITS if not (folder / SPLIT_FILE[split]).is_file()]:
        raise Failure(
            f"The expectation 'every split is there' failed: saw no {' and no '.join(missing)}, wanted"
            f" {', '.join(SPLITS)}",
            where=str(folder),
            remedy="fix the corpus and run again",
        )
    read = {split: _decode((folder / SPLIT_FILE[split]).read_bytes()) for split in SPLITS}
    train = read[SPLITS[0]][0]
    unit = unit_of(count_words(train), len(train.encode()))
    number: dict[str, int] = {}
    splits = {}
    for split, (text, unreadable) in read.items():
        words = _words(text, number) if unit == "word" else _characters(text, number)
        splits[split] = SplitText(split, text, unreadable, words, unit)
    return Corpus(metadata=metadata, splits=splits, vocabulary=list(number), unit=unit)


def count_parts(text: str, unit: Unit) -> int:
    """Counts the words of a text, or its characters without white space."""
    return len(text.split()) if unit == "word" else sum(map(len, text.split()))


def _words(text: str, number: dict[str, int]) -> np.ndarray:
    """Converts the words of a text to indices. New words get the next index."""
    words = text.split()
    for word in dict.fromkeys(words):
        number.setdefault(word, len(number))
    return np.fromiter(map(number.__getitem__, words), np.int64, len(words))


def _characters(text: str, number: dict[str, int]) -> np.ndarray:
    """Converts the characters of a text to indices, without a Python object for each character."""
    codes = np.frombuffer("".join(text.split()).encode("utf-32-le"), np.uint32)
    known, inverse = np.unique(codes, return_inverse=True)
    numbers = [number.setdefault(chr(code), len(number)) for code in known]
    return np.array(numbers, np.int64)[inverse]


def _decode(data: bytes) -> tuple[str, dict[int, int]]:
    """Returns the text, and the number of places that are not UTF-8 by line number."""
    text = data.decode("utf-8", errors="replace")
    if text.count(_UNREADABLE) == data.count(_UNREADABLE.encode()):
        return text, {}
    places = {
        number: line.decode("utf-8", errors="replace").count(_UNREADABLE) - line.count(_UNREADABLE.encode())
        for number, line in enumerate(data.split(b"\n"), start=1)
    }
    return text, {number: count for number, count in places.items() if count}
