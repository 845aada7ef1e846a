"""Builds the tables for the expectations from what was measured of lines and articles.

A mark is 1 for a fault, 0 for no fault, and NaN if the question does not apply.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.shared.text.articles import SPLITS
from components.validate.corpus import Corpus
from components.validate.drift import Reference
from components.validate.settings import ValidateSettings
from components.validate.statistics import text_statistics, word_shares

if TYPE_CHECKING:
    import pandas as pd


def build_tables(
    corpus: Corpus, settings: ValidateSettings, reference: Reference | None = None
) -> dict[tuple[str, str], pd.DataFrame]:
    """Builds all tables by split and name: `lines`, `articles` and, if there is a reference, `statistics` of train.

    The table `statistics` has one row, and a column for each statistic of the text.
    """
    import pandas as pd

    tables = {(split, "lines"): table for split, table in measure_lines(corpus).items()}
    tables |= {(split, "articles"): table for split, table in measure_articles(corpus, settings).items()}
    if reference:
        ours = reference.compare(text_statistics(corpus), word_shares(corpus))
        tables[SPLITS[0], "statistics"] = pd.DataFrame([ours])
    return tables


def measure_lines(corpus: Corpus) -> dict[str, pd.DataFrame]:
    """Builds a table with one row per line for each split.

    `odd` names damaged and invisible characters; `shared` marks lines that an earlier split contains.
    """
    import pandas as pd

    tables, before = {}, np.empty(0, np.int64)
    for name, split in corpus.splits.items():
        lines, count = split.lines, len(split.lines)
        unreadable = np.zeros(count, np.int32)
        unreadable[[number - 1 for number in lines.unreadable]] = list(lines.unreadable.values())
        heading = lines.column if corpus.has_titles else lambda _, count=count: np.full(count, -1)
        is_long, texts = lines.column("long").astype(bool), lines.column("text")
        long_texts = texts[is_long]
        columns = {
            "line": np.arange(1, count + 1, dtype=np.int32),
            "words": lines.column("words"),
            "unreadable": unreadable,
            "damaged": _marks(lines.column("damaged")),
            "invisible": _marks(lines.column("invisible")),
            "odd": pd.Categorical.from_codes(lines.column("odd"), list(lines.odd)),
            "broken_heading": _marks(heading("broken_heading")),
            "skipped_level": _marks(heading("skipped_level")),
            "repeated": _marks_of(is_long, _repeated(long_texts)),
            "shared": _marks_of(is_long, np.isin(long_texts, before)),
        }
        tables[name] = pd.DataFrame(columns)
        before = np.union1d(before, long_texts)
    return tables


def measure_articles(corpus: Corpus, settings: ValidateSettings) -> dict[str, pd.DataFrame]:
    """Builds a table with one row per article for each split.

    `copied`, `overlap` and `twin` refer to earlier splits.
    """
    import pandas as pd

    tables, before = {}, set[bytes]()
    for name, split in corpus.splits.items():
        articles, overlaps = split.articles, split.overlaps
        words = np.array(articles.words, dtype=np.int64)
        bodies = articles.bodies
        columns = {
            "title": articles.titles,
            "words": words,
            "unk_rate": np.array(articles.unknown, dtype=np.int64) / np.maximum(words, 1),
            "untitled": _marks(not title for title in articles.titles),
            "short": _marks(words < settings.min_article_words),
            "repeated": _seen_before(bodies),
            "copied": _marks(-1 if body is None else body in before for body in bodies),
            "overlap": np.array([each.share for each in overlaps], dtype=float),
            "near_duplicate": _marks(each.share >= settings.near_duplicate for each in overlaps),
            "twin": [": ".join(filter(None, each.twin or ())) for each in overlaps],
        }
        tables[name] = pd.DataFrame(columns)
        before.update(body for body in bodies if body is not None)
    return tables


def _repeated(texts: np.ndarray) -> np.ndarray:
    """Marks texts that are equal to an earlier one."""
    found = np.ones(len(texts), dtype=bool)
    found[np.unique(texts, return_index=True)[1]] = False
    return found


def _seen_before(texts: Sequence[Hashable | None]) -> np.ndarray:
    seen: set[Hashable] = set()
    marks: list[int] = []
    for text in texts:
        marks.append(-1 if text is None else text in seen)
        seen.add(text)
    return _marks(marks)


def _marks(values: Iterable[int]) -> np.ndarray:
    """Marks as floats of four bytes; -1 means that the question does not apply."""
    marks = np.fromiter(values, np.float32) if not isinstance(values, np.ndarray) else values.astype(np.float32)
    marks[marks < 0] = np.nan
    return marks


def _marks_of(asked: np.ndarray, faults: np.ndarray) -> np.ndarray:
    """Marks of the rows that are asked, which have these faults, among all rows."""
    marks = np.full(len(asked), np.nan, np.float32)
    marks[asked] = faults
    return marks
