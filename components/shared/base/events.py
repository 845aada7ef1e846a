"""One stream of events, a JSON object a line on stdout: it feeds the progress bar, the log and the run's record.

kfp.local merges a step's stdout and stderr and hands them on line by line, indented, so an event is told from other
output by how its line begins after the blanks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any

from components.shared.base.redact import redact_values

_START = '{"event": "'
_lock = threading.Lock()


def emit(event: str, /, **fields: Any) -> None:
    """Prints one event. Values are JSON values; a float that is not finite travels as its name.

    An event that cannot be written changes no outcome: where nobody reads stdout any more, later output is dropped.
    """
    line = json.dumps({"event": event, "time": round(time.time(), 3), **redact_values(fields)}, default=_plain)
    with _lock:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError:
            _drop_output()


def _drop_output() -> None:
    """Leads stdout to nowhere, so that neither a library's print nor the end of the process fails on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """For a command that does the work of a step itself: notes are sentences for its user, other events are dropped."""
    output = StringIO()
    try:
        with redirect_stdout(output):
            yield
    finally:
        for event in filter(None, map(parse, output.getvalue().splitlines())):
            if event["event"] == "note":
                print(event["text"], file=sys.stderr)


def _plain(value: Any) -> Any:
    """A number of NumPy or torch is a number; anything else is its text."""
    return value.item() if hasattr(value, "item") else str(value)


def parse(line: str) -> dict[str, Any] | None:
    """The event that a line holds, or None where the line is other output."""
    text = line.lstrip()
    if not text.startswith(_START):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
