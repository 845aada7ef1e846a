"""Finds the lines of a log that say why a run failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path

from components.shared.base.events import parse
from pipelines.config.paths import shorten

_TRACEBACK = "Traceback (most recent call last):"
_LAST = 3


def log_sentence(log: str) -> str:
    """The sentence that says which lines of which log to read after a failure."""
    found = lines_of_failure(Path(log))
    if found is None:
        return f"No line of {shorten(log)} says why the run failed."
    first, last = found
    lines, say = (f"Line {first}", "says") if first == last else (f"Lines {first} to {last}", "say")
    return f"{lines} of {shorten(log)} {say} why the run failed."


def lines_of_failure(log: Path) -> tuple[int, int] | None:
    """The numbers of the first and the last line that say why a run failed; None for a log of events only.

    These are the traceback and the message of the step that failed. If no step recorded a failure, they are the last
    lines that are not events.
    """
    traceback = 0
    found: tuple[int, int] | None = None
    last: deque[int] = deque(maxlen=_LAST)
    for number, line in _lines(log):
        event = parse(line)
        if event is None:
            if line.strip():
                last.append(number)
            if not traceback and line.strip() == _TRACEBACK:
                traceback = number
            continue
        if event["event"] == "step-failed" and event.get("step") != "notify":
            found = traceback or number, number
        traceback = 0
    return found or ((last[0], last[-1]) if last else None)


def _lines(log: Path) -> Iterator[tuple[int, str]]:
    """The lines with their numbers as editors count them: a carriage return ends no line."""
    with open(log, encoding="utf-8", errors="replace", newline="\n") as stream:
        yield from enumerate(stream, 1)
