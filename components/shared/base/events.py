"""Events of a step, one JSON object per line on stdout: the progress bar, the log and the record of the run read them.

kfp.local merges a step's stdout and stderr and passes them on line by line, indented. An event is therefore recognised
by how its line begins after the white space.
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
    """Prints one event. Values are JSON values; a float that is not finite is written as NaN or Infinity.

    A step never fails because an event cannot be written: if the reader of stdout is gone, later output is discarded.
    """
    line = json.dumps({"event": event, "time": round(time.time(), 3), **redact_values(fields)}, default=_to_json)
    with _lock:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError:
            drop_output(1)


def drop_output(stream: int) -> None:
    """Redirects a stream to /dev/null, so that neither a library's print nor the final flush raises an error.

    Python keeps what it could not write, and ends with exit code 120 if its final flush fails too.

    Args:
        stream: 1 for stdout, 2 for stderr.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream)
    os.close(null)


@contextmanager
def notes_on_stderr() -> Iterator[None]:
    """Prints the notes of the block to stderr and drops other events, for a command that calls a step's code."""
    output = StringIO()
    try:
        with redirect_stdout(output):
            yield
    finally:
        for event in filter(None, map(parse, output.getvalue().splitlines())):
            if event["event"] == "note":
                print(event["text"], file=sys.stderr)


def _to_json(value: Any) -> Any:
    """Converts a NumPy or torch number to a Python number and anything else to text."""
    return value.item() if hasattr(value, "item") else str(value)


def parse(line: str) -> dict[str, Any] | None:
    """The event in a line of output, or None if the line is not an event."""
    text = line.lstrip()
    if not text.startswith(_START):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None
