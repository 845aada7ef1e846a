"""Reads the failure of a step from its log. Without access to Kubernetes there is no other source."""

from __future__ import annotations

import re

from components.shared.base.events import parse
from components.shared.base.failure import Failure

# The launcher of Kubeflow Pipelines 2.17 prints this about the process that it started.
_LAUNCHER = re.compile(r"E\d{4} .*\] Component failed to execute successfully: (?P<how>.*)")
_SENTENCE = re.compile(r"[^\s{\[].* \(.*\): .*\.")
_KILLED = ("exit status 137", "signal: killed")


def failure_in(log: str) -> str | None:
    """The failure of a step as its log reports it; None if the log does not.

    The step prints its failure twice, as an event and as a sentence. The server of Kubeflow Pipelines shows events as
    empty lines. There the sentence is used: the last line before the launcher reports the end of the process.
    """
    lines = log.splitlines()
    events = [event for event in map(parse, lines) if event and event["event"] == "step-failed"]
    if events:
        return str(Failure.from_dict(events[-1]))
    for number in reversed(range(len(lines))):
        if launcher := _LAUNCHER.match(lines[number]):
            return _before(lines[:number]) or _how(launcher["how"])
    return None


def _before(lines: list[str]) -> str | None:
    last = next((line for line in reversed(lines) if line.strip()), "")
    return last if _SENTENCE.fullmatch(last) else None


def _how(how: str) -> str:
    if how in _KILLED:
        return f"its process was killed ({how}), which usually means that memory ran out"
    return f"its process ended with {how}"
