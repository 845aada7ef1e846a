"""The folder of a run for temporary files. It is removed with the run, also if the steps are killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = "wikigpt-run-"


@dataclass(frozen=True)
class Scratch:
    """A folder for the temporary files of the processes of one run.

    Attributes:
        folder: the folder.
        lock: a file descriptor. The folder counts as in use while a process that inherited it is alive.
    """

    folder: Path
    lock: int

    @property
    def variables(self) -> dict[str, str]:
        """The variable by which Python, shells and libraries find the folder."""
        return {"TMPDIR": str(self.folder)}


@contextmanager
def scratch_folder() -> Iterator[Scratch]:
    """Creates the folder, and removes it at the end, as well as those whose commands were killed before they could.

    It is not in the home: paths of sockets must be short, and the home may be on a network.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    scratch = _create(parent)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch.folder, ignore_errors=True)
        os.close(scratch.lock)


def _create(parent: Path) -> Scratch:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        if (lock := _lock(folder)) is not None:
            if folder.is_dir():
                return Scratch(folder, lock)
            os.close(lock)
        # Another command took the folder for an abandoned one before it was locked.


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        if (lock := _lock(folder)) is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Locks a folder of this user, and returns the descriptor; None if that is impossible."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(descriptor).st_uid == os.getuid():
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
    return None
