"""What the published corpora hold, counted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Lines, articles and words (the least and the most) of a split."""

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
        # A word that the other release calls <unk> may hold a blank of Unicode here, and so count for two.
        "train": Counts(lines=36_718, articles=600, words=(2_051_910, 2_062_000)),
        "validation": _VALIDATION,
        "test": _TEST,
    },
}
