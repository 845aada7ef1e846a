"""Computes windows over a sequence of tokens, so that each token is scored at most once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Tokens `begin` to `end` of a sequence. The tokens from `scored` on are scored, given the earlier ones."""

    begin: int
    end: int
    scored: int


def sliding_windows(length: int, span: int, stride: int, *, fill_last: bool = False) -> Iterator[Window]:
    """Yields windows of at most `span` tokens that begin `stride` tokens apart and end with the sequence.

    A token is scored in the first window that contains it, unless it is the first token of that window and has no
    context. If `stride` is below `span`, only the first token of the sequence is not scored; if they are equal, the
    first token of each window is not scored.

    Args:
        length: the number of tokens of the sequence.
        span: the number of tokens of a window, context and targets together, at least 2.
        stride: the distance between the beginnings of windows, at most `span`.
        fill_last: whether the last window begins earlier, so that it is as long as the others.
    """
    if not 1 <= stride <= span or span < 2:
        raise ValueError(f"stride must be from 1 to the span of the window ({span}), got {stride}")
    done = 0
    for start in range(0, length, stride):
        end = min(start + span, length)
        begin = max(0, end - span) if fill_last else start
        scored = max(done, begin + 1)
        if scored < end:
            yield Window(begin, end, scored)
        done = end
        if end == length:
            return
