"""The expectations of a corpus as data: a measure of a table, its limits, and the severity of a violation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

from components.shared.text.articles import SPLITS
from components.validate.corpus import Corpus
from components.validate.drift import DIVERGENCE, Reference
from components.validate.published import PUBLISHED_COUNTS, Counts
from components.validate.settings import ValidateSettings

Table = Literal["lines", "articles", "statistics"]
Measure = Literal["columns", "rows", "sum", "mean", "max", "share"]
Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Check:
    """One expectation of one split.

    Attributes:
        name: the expectation in words.
        split: the split of the corpus.
        table: the table of measurements.
        measure: the columns or the number of rows of the table; the sum, mean or maximum of `column`; or `share`, the
            fraction of the marks in `column` that are set.
        column: the column of the table; for the measure `columns`, the expected columns with spaces between them.
        low: the lower limit, if there is one.
        high: the upper limit, if there is one.
        unit: the unit of the measure, in the plural.
        setting: the field of the settings that sets the limit, if one does.
        severity: an error stops the run, a warning is reported.
    """

    name: str
    split: str
    table: Table
    measure: Measure
    column: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    setting: str = ""
    severity: Severity = "error"


_LINES = "line words unreadable damaged invisible odd broken_heading skipped_level repeated shared"
_ARTICLES = "title words unk_rate untitled short repeated copied overlap near_duplicate twin"

# Name, table, measure, column, unit, the upper limit or the name of its setting, severity.
Rule = tuple[str, Table, Measure, str, str, str | float, Severity]
_ALWAYS: tuple[Rule, ...] = (
    ("text in UTF-8", "lines", "sum", "unreadable", "places that are not UTF-8", 0, "error"),
    ("no replacement or control characters", "lines", "share", "damaged", "lines", "max_damaged_lines", "error"),
    ("few invisible characters", "lines", "share", "invisible", "lines", "max_invisible_lines", "warning"),
    ("no endless line", "lines", "max", "words", "words", "max_line_words", "warning"),
    ("few repeated lines", "lines", "share", "repeated", "long lines", "max_repeated_lines", "error"),
    ("few short articles", "articles", "share", "short", "articles", "max_short_articles", "warning"),
    ("no article twice in a split", "articles", "share", "repeated", "articles", 0, "warning"),
    ("few <unk>", "articles", "mean", "unk_rate", "of the words of an article", "max_unk_rate", "error"),
    ("no article full of <unk>", "articles", "max", "unk_rate", "of its words", "max_article_unk_rate", "warning"),
)
_WITH_TITLES: tuple[Rule, ...] = (
    ("every article has a title", "articles", "share", "untitled", "articles", 0, "error"),
    ("headings end as they begin", "lines", "share", "broken_heading", "headings", "max_broken_headings", "error"),
    ("headings skip no level", "lines", "share", "skipped_level", "headings", "max_skipped_levels", "warning"),
    ("no endless article", "articles", "max", "words", "words", "max_article_words", "warning"),
)
_HELD_OUT: tuple[Rule, ...] = (
    ("no article in two splits", "articles", "share", "copied", "articles", 0, "error"),
    ("no article half in another split", "articles", "max", "overlap", "of its runs of words", "max_overlap", "error"),
    ("few near-duplicates in another split", "articles", "share", "near_duplicate", "articles",
     "max_near_duplicates", "warning"),
    ("few lines in two splits", "lines", "share", "shared", "long lines", "max_shared_lines", "error"),
)  # fmt: skip


def checks(corpus: Corpus, settings: ValidateSettings, reference: Reference | None) -> list[Check]:
    """Lists the expectations of a corpus. Those whose failure explains other failures come first.

    Args:
        corpus: the corpus. A published corpus must have its exact counts; headings are checked only if there are
            titles.
        settings: the limits.
        reference: the measurements of the champion's corpus, if that is another corpus.
    """
    known = PUBLISHED_COUNTS.get(str(corpus.metadata.get("name")), {})
    found: list[Check] = []
    for name, split in corpus.splits.items():
        found += _counts(corpus, name, known.get(name), settings)
        rules = [*_ALWAYS, *(_WITH_TITLES if corpus.has_titles else ()), *(_HELD_OUT if name != SPLITS[0] else ())]
        if split.words.total:  # an empty split has no other checks
            found += [_check(name, rule, settings, corpus.words_are) for rule in rules]
    return [*found, *(_drift(reference, settings) if reference else ())]


def _check(split: str, rule: Rule, settings: ValidateSettings, words: str) -> Check:
    name, table, measure, column, unit, most, severity = rule
    unit = unit.replace("words", words)
    setting = most if isinstance(most, str) else ""
    high = getattr(settings, most) if isinstance(most, str) else most
    return Check(name, split, table, measure, column, None, high, unit, setting, severity)


def _counts(corpus: Corpus, split: str, known: Counts | None, settings: ValidateSettings) -> Iterator[Check]:
    yield Check("the columns of lines", split, "lines", "columns", _LINES)
    yield Check("the columns of articles", split, "articles", "columns", _ARTICLES)
    if known:
        least, most = known.words
        yield Check("lines as published", split, "lines", "rows", "", known.lines, known.lines, "lines")
        yield Check("articles as published", split, "articles", "rows", "", known.articles, known.articles, "articles")
        yield Check("words as published", split, "lines", "sum", "words", least, most, "words")
        return
    words = partial(Check, split=split, table="lines", measure="sum", column="words", unit=corpus.words_are)
    setting = "min_train_words" if split == SPLITS[0] else "min_heldout_words"
    yield words(f"enough {corpus.words_are}", low=getattr(settings, setting), setting=setting)
    if split == SPLITS[0]:
        others = max(each.words.total for name, each in corpus.splits.items() if name != split)
        yield words("train is the largest split", low=others, severity="warning")


def _drift(reference: Reference, settings: ValidateSettings) -> Iterator[Check]:
    drift = partial(Check, split=SPLITS[0], table="statistics", measure="max", severity="warning")
    for name, value in reference.statistics.items():
        yield drift(
            f"{name} like the champion's corpus",
            column=name,
            low=value * (1 - settings.drift_tolerance),
            high=value * (1 + settings.drift_tolerance),
            setting="drift_tolerance",
        )
    words = partial(Check, split=SPLITS[0], table="statistics", measure="max", column=DIVERGENCE, unit="bits")
    near, far = settings.warn_word_divergence, settings.max_word_divergence
    yield words("words like the champion's corpus", high=near, setting="warn_word_divergence", severity="warning")
    yield words("the language of the champion's corpus", high=far, setting="max_word_divergence")
