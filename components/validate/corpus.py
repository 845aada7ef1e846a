"""Reads the corpus for the checks, a few megabytes at a time, and keeps what is measured of lines, articles and words.

In a text without spaces between words, the parts between white space are lines or phrases that do not repeat. There
each character counts as a word, so that repetition, leakage and another language are still found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.shared.base.failure import Failure
from components.shared.text.articles import HELD_OUT, SPLIT_FILE, SPLITS, article_blocks, count_words, read_pieces
from components.shared.text.units import Unit, unit_of
from components.validate.article_measures import ArticleMeasures
from components.validate.line_measures import LineMeasures
from components.validate.overlap import Overlap, RunCollector, RunFinder, RunObserver, overlaps
from components.validate.vocabulary import Vocabulary, WordCounts

_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Split:
    """The measurements of one split.

    Attributes:
        name: train, validation or test.
        path: the file of the text.
        lines, articles, words: what was measured of each.
        overlaps: the overlap of each article with the earlier splits.
    """

    name: str
    path: Path
    lines: LineMeasures
    articles: ArticleMeasures
    words: WordCounts
    overlaps: list[Overlap]


@dataclass(frozen=True)
class Corpus:
    """All splits, with one vocabulary.

    Attributes:
        metadata: the metadata from the download step.
        splits: the splits by name, in the order of `SPLITS`.
        vocabulary: the distinct words of the corpus by their index.
        unit: "byte" if each character counts as a word, which the train split decides.
    """

    metadata: dict[str, Any]
    splits: dict[str, Split]
    vocabulary: Vocabulary
    unit: Unit = "word"

    @property
    def words_are(self) -> str:
        """The name of the counted unit in messages."""
        return "words" if self.unit == "word" else "characters"

    @property
    def has_titles(self) -> bool:
        """Whether the text is in WikiText's format: if one split begins with a title, all splits should."""
        return any(split.articles.titles[0] for split in self.splits.values() if split.articles.titles)


def read_corpus(folder: Path, metadata: dict[str, Any]) -> Corpus:
    """Reads and measures the splits of a corpus.

    The memory is that of the vocabulary, of a few numbers for each line and article, and of the runs of words of the
    splits that are held out: these are read first, so that the train split is compared with them while it is read.

    Raises:
        Failure: a split is missing.
    """
    paths = {split: folder / SPLIT_FILE[split] for split in SPLITS}
    if missing := [split for split, path in paths.items() if not path.is_file()]:
        raise Failure(
            f"The expectation 'every split is there' failed: saw no {' and no '.join(missing)}, wanted"
            f" {', '.join(SPLITS)}",
            where=str(folder),
            remedy="fix the corpus and run again",
        )
    unit = _unit(paths[SPLITS[0]])
    vocabulary = Vocabulary(unit)
    runs = {name: RunCollector(unit) for name in HELD_OUT}
    read = {name: _read_split(paths[name], vocabulary, runs[name]) for name in HELD_OUT}
    found = RunFinder(unit, list(runs.values()))
    read[SPLITS[0]] = _read_split(paths[SPLITS[0]], vocabulary, found)
    titles = {name: articles.titles for name, (_, articles, _) in read.items()}
    overlap_of = overlaps(found, runs, titles)
    splits = {name: Split(name, paths[name], *read[name], overlap_of[name]) for name in SPLITS}
    return Corpus(metadata, splits, vocabulary, unit)


def _unit(train: Path) -> Unit:
    words = size = 0
    for piece in read_pieces(train):
        text = piece.decode("utf-8", errors="replace")
        words, size = words + count_words(text), size + len(text.encode())
    return unit_of(words, size)


def _read_split(
    path: Path, vocabulary: Vocabulary, runs: RunObserver
) -> tuple[LineMeasures, ArticleMeasures, WordCounts]:
    unit = vocabulary.unit
    lines, articles, words = LineMeasures(unit), ArticleMeasures(unit), WordCounts()
    for block in article_blocks(_decoded(path, lines.unreadable)):
        if unit == "word":
            parts = [line.split() for line in block.lines]
            counts, numbers = _lengths(parts), vocabulary.of_words(parts)
        else:
            characters = ["".join(line.split()) for line in block.lines]
            counts, numbers = _lengths(characters), vocabulary.of_characters("".join(characters))
        lines.add(block.lines, counts)
        words.add(numbers, len(vocabulary))
        runs.add(numbers, articles.add(block, counts, numbers, vocabulary))
    articles.close()
    return lines, articles, words


def _lengths(lines: Sequence[Sized]) -> np.ndarray:
    return np.fromiter(map(len, lines), np.int64, len(lines))


def _decoded(path: Path, unreadable: dict[int, int]) -> Iterator[str]:
    """Yields a text with U+FFFD for invalid bytes, and counts these places by line number, which starts at 1."""
    before = 0
    for piece in read_pieces(path):
        text = piece.decode("utf-8", errors="replace")
        if text.count(_REPLACEMENT) != piece.count(_REPLACEMENT.encode()):
            for number, line in enumerate(piece.split(b"\n"), start=before + 1):
                shown, written = (line.decode("utf-8", errors="replace"), line.count(_REPLACEMENT.encode()))
                if places := shown.count(_REPLACEMENT) - written:
                    unreadable[number] = places
        before += piece.count(b"\n")
        yield text
