"""A lock between the processes of one machine."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.shared.base.failure import Failure
from components.shared.base.os_errors import os_failure

_PATIENCE = 60.0  # seconds
_POLL = 0.05  # seconds


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Locks a file for the length of the block. The file is kept; the kernel releases the lock when the process ends.

    Args:
        path: the file; its folder must exist.

    Raises:
        Failure: another process holds the lock for longer, or the file cannot be opened.
    """
    try:
        stream = open(path, "ab")  # noqa: SIM115 -- closed below, which releases the lock
    except OSError as error:
        raise os_failure(error, path) from error
    with stream:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise Failure(
                        f"Another process has held this lock for {_PATIENCE:.0f} s",
                        where=str(path),
                        remedy="end that process (`fuser` names it), then run again",
                    ) from None
                time.sleep(_POLL)
            except OSError as error:
                raise os_failure(error, path, what="Could not lock") from error
        yield
