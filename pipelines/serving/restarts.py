"""Counts how often a program that ended by itself was started again, and gives up if it does not help."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from components.shared.base.failure import Failure

_MOST, _WITHIN = 3, 600.0  # restarts, and the seconds in which they are counted
_PAUSE = 10.0  # seconds after a restart that failed


class EndedTooOften(Failure):
    """The proxy or the engine ends again and again, so that nothing is served."""


class Restarts:
    """The restarts of the programs that serve.

    Args:
        report: called with a sentence for each restart.
    """

    def __init__(self, report: Callable[[str], object]):
        self.report = report
        self._times: deque[float] = deque(maxlen=_MOST)
        self._paused_until = 0.0

    @property
    def paused(self) -> bool:
        """Whether a restart failed just before."""
        return time.monotonic() < self._paused_until

    def count(self, what: str, log: Path, message: str = "") -> None:
        """Counts a restart before it is made.

        Args:
            what: the program, as the start of a sentence.
            log: its log.
            message: why it ended.

        Raises:
            EndedTooOften: there were too many.
        """
        now = time.monotonic()
        if len(self._times) == _MOST and now - self._times[0] < _WITHIN:
            raise EndedTooOften(
                f"{what} ended by itself, after {_MOST} restarts within {_WITHIN / 60:.0f} minutes",
                where=str(log),
                remedy="read the log, then start the command again",
            )
        self._times.append(now)
        self.report(f"{what} ended by itself and is started again{f': {message}' if message else '.'}")

    def failed(self, error: Exception) -> None:
        """Makes a pause, because a restart failed."""
        self._paused_until = time.monotonic() + _PAUSE
        self.report(f"That failed, and is tried again in {_PAUSE:g} s: {error}")
