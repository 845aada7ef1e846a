"""No token is scored twice, and every token with a context is scored."""

from __future__ import annotations

import pytest

from components.evaluate.windows import sliding_windows


@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 8, 9, 16, 17, 31, 64])
@pytest.mark.parametrize("stride", [1, 3, 4, 7])
@pytest.mark.parametrize("fill_last", [False, True])
def test_each_token_is_scored_once_by_overlapping_windows(length, stride, fill_last):
    windows = list(sliding_windows(length, 8, stride, fill_last=fill_last))
    scored = [token for window in windows for token in range(window.scored, window.end)]
    assert scored == list(range(1, length))
    assert all(window.end - window.begin <= 8 and window.scored > window.begin for window in windows)


def test_disjoint_windows_lose_their_first_token():
    windows = list(sliding_windows(20, 8, 8))
    assert [(window.begin, window.scored, window.end) for window in windows] == [(0, 1, 8), (8, 9, 16), (16, 17, 20)]


def test_the_last_window_can_reach_back_for_context():
    windows = list(sliding_windows(20, 9, 8, fill_last=True))
    assert [(window.begin, window.scored, window.end) for window in windows] == [(0, 1, 9), (8, 9, 17), (11, 17, 20)]
    assert [(window.begin, window.end) for window in sliding_windows(5, 9, 8, fill_last=True)] == [(0, 5)]


@pytest.mark.parametrize("stride", [0, 9])
def test_a_stride_that_would_skip_tokens_is_refused(stride):
    with pytest.raises(ValueError, match=r"stride must be from 1 to the span of the window \(8\)"):
        list(sliding_windows(20, 8, stride))
