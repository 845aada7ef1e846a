"""Settings of the validate step: the limits of its expectations.

Both releases of WikiText-2 pass with the defaults; the descriptions give their measured values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from components.shared.base.ranges import Range, check_ranges

_WORDS = Range(0, 10**12)
_SHARE = Range(0, 1)


@dataclass(frozen=True, kw_only=True)
class ValidateSettings:
    """The limits of a corpus. A value beyond an error's limit stops the run; beyond a warning's it is reported.

    Attributes:
        min_train_words: error; WikiText-2 has 2,051,910.
        min_heldout_words: error, for validation and test each; 213,886 and 241,211.
        max_damaged_lines: error; share of lines with replacement or control characters; none in the `<unk>` release.
        max_invisible_lines: warning; share of lines with zero-width and other invisible characters; 0.001.
        max_line_words: warning; the longest line has 699.
        max_broken_headings: error, in WikiText's format; share of lines that only begin like a heading; 0.003.
        max_skipped_levels: warning, in WikiText's format; share of headings more than a level below the last; 0.0014.
        min_article_words: an article of fewer words is short; the shortest has 281.
        max_short_articles: warning; share of short articles; 0.
        max_article_words: warning, in WikiText's format; the longest has 18,855.
        max_unk_rate: error; mean over articles of the share of words that are `<unk>`; 0.064.
        max_article_unk_rate: warning; the highest of any article; 0.18.
        max_repeated_lines: error; share of long lines (ten words and more) that repeat an earlier line; 0.008.
        max_shared_lines: error; share of long lines that an earlier split contains; 0.002.
        max_overlap: error; share of an article's runs of eight words that an earlier split contains; 0.30.
        near_duplicate: the overlap from which an article counts as a near-duplicate.
        max_near_duplicates: warning; share of near-duplicates; 0.
        max_word_divergence: error; Jensen-Shannon divergence, in bits, between the words of the train split and those
            of the champion's; validation against train has 0.07.
        warn_word_divergence: the same, as a warning.
        drift_tolerance: warning; the tolerated relative difference between statistics of the train split and the
            champion's.
    """

    min_train_words: Annotated[int, _WORDS] = 1_000
    min_heldout_words: Annotated[int, _WORDS] = 100
    max_damaged_lines: Annotated[float, _SHARE] = 0.001
    max_invisible_lines: Annotated[float, _SHARE] = 0.01
    max_line_words: Annotated[int, _WORDS] = 10_000
    max_broken_headings: Annotated[float, _SHARE] = 0.02
    max_skipped_levels: Annotated[float, _SHARE] = 0.02
    min_article_words: Annotated[int, _WORDS] = 20
    max_short_articles: Annotated[float, _SHARE] = 0.05
    max_article_words: Annotated[int, _WORDS] = 100_000
    max_unk_rate: Annotated[float, _SHARE] = 0.15
    max_article_unk_rate: Annotated[float, _SHARE] = 0.35
    max_repeated_lines: Annotated[float, _SHARE] = 0.05
    max_shared_lines: Annotated[float, _SHARE] = 0.05
    max_overlap: Annotated[float, _SHARE] = 0.5
    near_duplicate: Annotated[float, _SHARE] = 0.35
    max_near_duplicates: Annotated[float, _SHARE] = 0.02
    max_word_divergence: Annotated[float, _SHARE] = 0.5
    warn_word_divergence: Annotated[float, _SHARE] = 0.15
    drift_tolerance: Annotated[float, Range(0, 1000)] = 0.25

    def __post_init__(self) -> None:
        check_ranges(self)
