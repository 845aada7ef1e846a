"""Makes a corpus as large as a multiple of a given one, with new articles and a growing vocabulary.

The train split is the given one and then resampled copies of it. A copy keeps the headings and the lengths of lines and
articles. Half of its other words are drawn anew from all positions of the text so far, so words have the frequencies
that they had, and a run of eight words stays as it was in about one of 256 places. Some positions get words that never
occurred before, as many as Heaps' law asks for: distinct words = a * words ** GROWTH. New words are the beginning of
one word and the end of another, and are drawn like the others from then on. Validation and test are the given ones, as
in WikiText-103.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from components.shared.text.articles import SPLIT_FILE, SPLITS, split_lines

# Published distinct words of the train splits: 33,278 in the 2,088,628 words of WikiText-2, 267,735 in the 103,227,021
# of WikiText-103.
GROWTH = float(np.log(267_735 / 33_278) / np.log(103_227_021 / 2_088_628))
_REDRAWN = 0.5
_RELEASED = {"train": "wiki.train", "validation": "wiki.valid", "test": "wiki.test"}


def grow(source: Path, target: Path, times: int) -> None:
    """Writes the three splits to a folder; the train split has `times` times the length of the given one.

    Args:
        source: a folder with `train.txt` and its siblings, or with WikiText's files.
        target: the folder that is made.
        times: the factor; the same factor gives the same bytes.
    """
    target.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        data = split_file(source, split).read_bytes()
        with open(target / SPLIT_FILE[split], "wb") as stream:
            stream.write(data)
            if split == SPLITS[0]:
                for text in copies(data.decode(), times - 1):
                    stream.write(text.encode())


def split_file(folder: Path, split: str) -> Path:
    """The file of a split, by our name or one of WikiText's."""
    names = [SPLIT_FILE[split], *(f"{_RELEASED[split]}.{ending}" for ending in ("tokens", "raw"))]
    return next(folder / name for name in names if (folder / name).is_file())


def copies(text: str, count: int) -> Iterator[str]:
    """Yields resampled copies of a text."""
    lines = [line.split() for line in split_lines(text)]
    headings = np.array([line[:1] == ["="] for line in lines], dtype=bool)
    lengths = np.array([len(line) for line in lines], dtype=np.int64)
    vocabulary = list(dict.fromkeys(word for line in lines for word in line))
    number = {word: index for index, word in enumerate(vocabulary)}
    original = np.array([number[word] for line in lines for word in line], dtype=np.int64)
    free = np.flatnonzero(~np.repeat(headings, lengths) & (original != number.get("=", -1)))
    pool = original[free]  # a position holds the word of this place in one of the texts so far, each equally likely
    parts = [word for word in vocabulary if word.isalpha()]
    first_size = len(vocabulary)
    for copy in range(1, count + 1):
        random = np.random.default_rng(np.random.Philox([copy, len(original)]))
        words = original[free]
        redrawn = random.random(len(free)) < _REDRAWN
        words[redrawn] = pool[random.integers(len(pool), size=int(redrawn.sum()))]
        wanted = round(first_size * (copy + 1) ** GROWTH) - len(vocabulary)
        added = _invent(number, parts, min(wanted, len(free)), random)
        words[random.permutation(len(free))[: len(added)]] = np.arange(len(vocabulary), len(vocabulary) + len(added))
        vocabulary += added
        taken = random.random(len(pool)) < 1 / (copy + 1)
        pool[taken] = words[taken]
        ids = original.copy()
        ids[free] = words
        yield _spell(ids, lengths, vocabulary)


def _invent(number: dict[str, int], parts: list[str], count: int, random: np.random.Generator) -> list[str]:
    """Adds new words to the numbered ones, and returns them."""
    added: list[str] = []
    while len(added) < count:
        first, second = (parts[index] for index in random.integers(len(parts), size=2))
        word = first[: len(first) // 2 + 1] + second[len(second) // 2 :]
        while word in number:
            word += parts[random.integers(len(parts))]
        number[word] = len(number)
        added.append(word)
    return added


def _spell(ids: np.ndarray, lengths: np.ndarray, vocabulary: list[str]) -> str:
    words = [vocabulary[index] for index in ids.tolist()]
    ends = np.cumsum(lengths).tolist()
    begins = [0, *ends[:-1]]
    lines = (" ".join(words[begin:end]) for begin, end in zip(begins, ends, strict=True))
    return "".join(f" {line} \n" if line else " \n" for line in lines)
