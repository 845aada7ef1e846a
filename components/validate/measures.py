"""Measures every line and every article, and builds the tables for the expectations.

A mark is 1 for a fault, 0 for no fault, and NaN if the question does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from components.shared.text.articles import SPLITS, Article
from components.shared.text.units import Unit
from components.validate.corpus import Corpus, count_parts
from components.validate.drift import Reference
from components.validate.overlap import RUN, overlaps
from components.validate.settings import ValidateSettings
from components.validate.statistics import text_statistics, word_shares

if TYPE_CHECKING:
    import pandas as pd

LONG_LINE: dict[Unit, int] = {"word": 10, "byte": 20}
_DAMAGED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]")
_HEADING = re.compile(r"((?:= )+)(?!=).+?((?: =)+)")


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

    tables, before = {}, set[str]()
    for name, split in corpus.splits.items():
        words = split.line_words
        long = [
            line.strip() if count >= LONG_LINE[split.unit] else None
            for line, count in zip(split.lines, words, strict=True)
        ]
        broken, skipped = _headings(split.lines if corpus.has_titles else [""] * len(split.lines))
        columns = {
            "line": np.arange(1, len(words) + 1),
            "words": words,
            "unreadable": np.array([split.unreadable.get(number, 0) for number in range(1, len(words) + 1)]),
            "damaged": _marks(_DAMAGED.search(line) is not None for line in split.lines),
            "invisible": _marks(_INVISIBLE.search(line) is not None for line in split.lines),
            "odd": [_code_points(line) for line in split.lines],
            "broken_heading": broken,
            "skipped_level": skipped,
            "repeated": _seen_before(long),
            "shared": _marks(None if line is None else line in before for line in long),
        }
        tables[name] = pd.DataFrame(columns)
        before.update(line for line in long if line is not None)
    return tables


def measure_articles(corpus: Corpus, settings: ValidateSettings) -> dict[str, pd.DataFrame]:
    """Builds a table with one row per article for each split.

    `copied`, `overlap` and `twin` refer to earlier splits.
    """
    import pandas as pd

    tables, before = {}, set[str]()
    overlap_of = overlaps(list(corpus.splits.values()))
    for name, split in corpus.splits.items():
        bodies = [_body(article, split.unit) for article in split.articles]
        words = np.diff(split.article_bounds)
        unknown = np.concatenate([[0], np.cumsum(split.words == corpus.unknown)])
        overlap = overlap_of[name]
        columns = {
            "title": [article.title for article in split.articles],
            "words": words,
            "unk_rate": np.diff(unknown[split.article_bounds]) / np.maximum(words, 1),
            "untitled": _marks(not article.title for article in split.articles),
            "short": _marks(count < settings.min_article_words for count in words),
            "repeated": _seen_before(bodies),
            "copied": _marks(None if body is None else body in before for body in bodies),
            "overlap": np.array([each.share for each in overlap], dtype=float),
            "near_duplicate": _marks(each.share >= settings.near_duplicate for each in overlap),
            "twin": [": ".join(filter(None, each.twin or ())) for each in overlap],
        }
        tables[name] = pd.DataFrame(columns)
        before.update(body for body in bodies if body is not None)
    return tables


def _code_points(line: str) -> str:
    """Names the damaged and invisible characters of a line, such as "U+0085", each once."""
    found = [*_DAMAGED.findall(line), *_INVISIBLE.findall(line)] if not line.isascii() or _DAMAGED.search(line) else []
    return " ".join(f"U+{ord(character):04X}" for character in dict.fromkeys(found))


def _body(article: Article, unit: Unit) -> str | None:
    """Returns the words of an article below its title in lower case, or None if there are too few to compare."""
    body = article.body.casefold()
    return " ".join(body.split()) if count_parts(body, unit) >= RUN[unit] else None


def _headings(lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Marks lines that begin like a heading and do not end like one, and headings that skip a level."""
    broken: list[bool | None] = []
    skipped: list[bool | None] = []
    last = 1
    for line in lines:
        if not line.lstrip(" ").startswith("= "):
            broken.append(None)
            skipped.append(None)
            continue
        match = _HEADING.fullmatch(line.strip())
        level = match.group(1).count("=") if match else 0
        good = match is not None and level == match.group(2).count("=")
        broken.append(not good)
        skipped.append(level > last + 1 if good else None)
        last = level if good else last
    return _marks(broken), _marks(skipped)


def _seen_before(texts: Iterable[str | None]) -> np.ndarray:
    seen: set[str | None] = set()
    marks: list[bool | None] = []
    for text in texts:
        marks.append(None if text is None else text in seen)
        seen.add(text)
    return _marks(marks)


def _marks(values: Iterable[bool | None]) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in values], dtype=float)
