"""What the measures of a text refer to: its words, or its bytes where blanks do not part words."""

from __future__ import annotations

import math
from typing import Literal

Unit = Literal["word", "byte"]

# Bytes of a word of English with the blank before it: what is allowed a word is allowed so many bytes.
BYTES_OF_A_WORD = 5
# Bytes of a word on average, from which on blanks do not part words: Malayalam, with the longest, has about 30.
_LONGEST_WORD = 40


def unit_of(words: int, size: int) -> Unit:
    """What two models are compared by on a text; the text alone decides.

    Args:
        words: of the text, ends of lines among them.
        size: bytes of the text.
    """
    return "word" if words and size <= _LONGEST_WORD * words else "byte"


def exp_mean(nats: float, count: int) -> float:
    """exp(nats / count): NaN where there is nothing to divide by, infinite where a float cannot hold it."""
    try:
        return math.exp(nats / count) if count else math.nan
    except OverflowError:
        return math.inf
