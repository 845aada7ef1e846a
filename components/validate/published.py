"""The line, article and word counts of the published corpora."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """The counts of lines and articles of a split, and the minimum and maximum count of words."""

    lines: int
    articles: int
    words: tuple[int, int]


_VALIDATION = Counts(lines=3_760, articles=60, words=(213_886, 213_886))
_TEST = Counts(lines=4_358, articles=60, words=(241_211, 241_211))

PUBLISHED_COUNTS: dict[str, dict[str, Counts]] = {
    "wikitext-2-v1": {
        "train": Counts(lines=36_718, articles=600, words=(2_051_910, 2_051_910)),
        "validation": _VALIDATION,
        "test": _TEST,
    },
    "wikitext-2-raw-v1": {
        # A word that is <unk> in the other release may contain a Unicode space here, and then counts as two words.
        "train": Counts(lines=36_718, articles=600, words=(2_051_910, 2_062_000)),
        "validation": _VALIDATION,
        "test": _TEST,
    },
}
