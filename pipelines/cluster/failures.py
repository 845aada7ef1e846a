"""The failure that a step recorded, read from its log: without Kubernetes nothing else says why a step failed."""

from __future__ import annotations

import re

from components.shared.base.events import parse
from components.shared.base.failure import Failure

# The launcher of Kubeflow Pipelines 2.17 about the process that it started.
_LAUNCHER = re.compile(r"E\d{4} .*\] Component failed to execute successfully: (?P<how>.*)")
_SENTENCE = re.compile(r"[^\s{\[].* \(.*\): .*\.")
_KILLED = ("exit status 137", "signal: killed")


def failure_in(log: str) -> str | None:
    """Why a step failed, in the words of its log; None where the log does not say it.

    The step prints its failure twice, as an event and as a sentence. The server of Kubeflow Pipelines gives an event as
    an empty line, so the sentence counts there: the last line before the launcher reports the end of the process.
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
        return f"its process was killed ({how}), as happens where memory runs out"
    return f"its process ended with {how}"
