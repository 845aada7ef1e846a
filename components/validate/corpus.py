"""The corpus as the checks use it: for each split the text, its words as numbers, and the bounds of lines and articles.

In a text that is written without blanks, the parts between blanks are lines or phrases that do not repeat. There a
character counts as a word, so that repetition, leakage and another language are still found.
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
        text: decoded as UTF-8, with U+FFFD where that failed.
        unreadable: line numbers, from 1, to the number of places on that line that are not UTF-8.
        words: (words,) int64, the words of the text in order as numbers into `Corpus.vocabulary`.
        unit: of the corpus, see `Corpus`.
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
        """(lines,) the number of words on each line."""
        return np.array([count_parts(line, self.unit) for line in self.lines], dtype=np.int64)

    @cached_property
    def article_bounds(self) -> np.ndarray:
        """(articles + 1,) offsets into `words`."""
        ends = np.cumsum([0, *(count_lines(article.text) for article in self.articles)])
        return np.concatenate([[0], np.cumsum(self.line_words)])[ends]


@dataclass(frozen=True)
class Corpus:
    """All splits, with one vocabulary.

    Attributes:
        metadata: what the step that fetched it found out.
        splits: by name, in the order of `SPLITS`.
        vocabulary: every word of the corpus.
        unit: "byte" where a character counts as a word, by the train split.
    """

    metadata: dict[str, Any]
    splits: dict[str, SplitText]
    vocabulary: list[str]
    unit: Unit = "word"

    @property
    def words_are(self) -> str:
        """The unit that is counted, as messages name it."""
        return "words" if self.unit == "word" else "characters"

    @property
    def has_titles(self) -> bool:
        """Whether this is text in WikiText's format: some split begins with a title, so all of them should."""
        return any(split.articles[0].title for split in self.splits.values() if split.articles)

    @cached_property
    def unknown(self) -> int:
        """The number of `<unk>` in the vocabulary, or one that no word has."""
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
    """The words of a text, or its characters that are no blanks."""
    return len(text.split()) if unit == "word" else sum(map(len, text.split()))


def _words(text: str, number: dict[str, int]) -> np.ndarray:
    """The words of a text as numbers; new ones are given the next."""
    words = text.split()
    for word in dict.fromkeys(words):
        number.setdefault(word, len(number))
    return np.fromiter(map(number.__getitem__, words), np.int64, len(words))


def _characters(text: str, number: dict[str, int]) -> np.ndarray:
    """The same of its characters, without an object for each."""
    codes = np.frombuffer("".join(text.split()).encode("utf-32-le"), np.uint32)
    known, inverse = np.unique(codes, return_inverse=True)
    numbers = [number.setdefault(chr(code), len(number)) for code in known]
    return np.array(numbers, np.int64)[inverse]


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
