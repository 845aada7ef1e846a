"""The unit in which a text is measured: words, or bytes for a text whose words are not separated by spaces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

Unit = Literal["word", "byte"]

# Bytes of an average English word with a space: a margin per word is divided by this for a margin per byte.
BYTES_OF_A_WORD = 5
# Mean bytes per word above which spaces do not separate words: Malayalam, with the longest words, has about 30.
_LONGEST_WORD = 40


def unit_of(words: int, size: int) -> Unit:
    """The unit in which models are compared on a text, which depends only on the text.

    Args:
        words: the number of words in the text, including line ends.
        size: the size of the text in bytes.
    """
    return "word" if words and size <= _LONGEST_WORD * words else "byte"


def exp_mean(nats: float, count: int) -> float:
    """exp(nats / count): NaN if count is 0, infinite if the result exceeds a float."""
    try:
        return math.exp(nats / count) if count else math.nan
    except OverflowError:
        return math.inf


def word_perplexity(loss: float, counts: Mapping[str, int]) -> float:
    """The perplexity per word of a split from the mean loss per token, at most e^700.

    Args:
        loss: in nats per token.
        counts: the numbers of `tokens` and `words` of the split.
    """
    return math.exp(min(loss * counts["tokens"] / counts["words"], 700))
