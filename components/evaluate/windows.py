"""Where windows over a sequence of tokens begin and end, so that each token is scored once at most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Tokens `begin` to `end` of a sequence, of which those from `scored` on are scored, given all before them."""

    begin: int
    end: int
    scored: int


def sliding_windows(length: int, span: int, stride: int, *, fill_last: bool = False) -> Iterator[Window]:
    """Windows of at most `span` tokens that begin `stride` tokens apart and end with the sequence.

    A token is scored in the first window that holds it, unless it is the first of that window, where it has no
    context. With `stride` below `span` only the first token of the sequence goes unscored; with `stride` equal to
    `span` the first of each window does.

    Args:
        length: tokens of the sequence.
        span: tokens of a window, context and targets together, at least 2.
        stride: between the beginnings of windows, at most `span`.
        fill_last: let the last window begin earlier, so that it is as long as the others.
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
