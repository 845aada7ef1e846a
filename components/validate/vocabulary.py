"""Numbers the words of a corpus, and counts them by split."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from itertools import chain

import numpy as np

from components.shared.text.units import Unit

UNKNOWN = "<unk>"
_CODE_POINTS = 0x110000


class Vocabulary(dict[str, int]):
    """The numbers of the distinct words, or of the distinct characters; a new word gets the next one, `<unk>` is 0.

    Attributes:
        unit: "byte" if characters are numbered.
    """

    def __init__(self, unit: Unit):
        super().__init__()
        self.unit = unit
        self._folded: dict[str, int] = {}
        self._fold_of = array("i")
        self.unknown = self[UNKNOWN]
        self._by_code = np.full(_CODE_POINTS if unit == "byte" else 0, -1, np.int32)

    def __missing__(self, word: str) -> int:
        """Numbers a word. The lookups of a dictionary call it, which is fast for the many words that are not new."""
        number = self[word] = len(self)
        self._fold_of.append(self._folded.setdefault(word.casefold(), len(self._folded)))
        return number

    def of_words(self, lines: Iterable[list[str]]) -> np.ndarray:
        """The numbers of the words of some lines, int32 [words]."""
        return np.fromiter(map(self.__getitem__, chain.from_iterable(lines)), np.int32)

    def of_characters(self, text: str) -> np.ndarray:
        """The numbers of the characters of a text, int32 [characters], without a Python object for each."""
        codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
        for code in np.unique(codes[self._by_code[codes] < 0]):
            self._by_code[code] = self[chr(code)]
        return self._by_code[codes]

    def without_case(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers that are equal for words that differ only in case."""
        return np.frombuffer(self._fold_of, np.int32)[numbers]


class WordCounts:
    """The words of one split.

    Attributes:
        total: the number of words.
        counts: the number of occurrences by the number of a word; words that came later have no entry.
        first_seen: the distinct words in the order of their first occurrence.
        first_places: the positions of these occurrences, in order.
    """

    def __init__(self) -> None:
        self.total = 0
        self.counts = np.zeros(0, np.int64)
        self._places: list[np.ndarray] = [np.zeros(0, np.int64)]
        self._words: list[np.ndarray] = [np.zeros(0, np.int32)]

    @property
    def first_seen(self) -> np.ndarray:
        return np.concatenate(self._words)

    @property
    def first_places(self) -> np.ndarray:
        return np.concatenate(self._places)

    @property
    def distinct(self) -> int:
        return int(np.count_nonzero(self.counts))

    def add(self, numbers: np.ndarray, size: int) -> None:
        """Counts the next words of the split.

        Args:
            numbers: the numbers of the words.
            size: the size of the vocabulary.
        """
        before = self.counts_for(size)
        fresh = np.flatnonzero(before[numbers] == 0)
        words, index = np.unique(numbers[fresh], return_index=True)
        places = fresh[index]
        order = np.argsort(places)
        self._words.append(words[order])
        self._places.append(self.total + places[order])
        self.counts = before + np.bincount(numbers, minlength=size)
        self.total += len(numbers)

    def counts_for(self, size: int) -> np.ndarray:
        """The number of occurrences of each word of a vocabulary of this size, int64 [size]."""
        return np.pad(self.counts, (0, size - len(self.counts)))
