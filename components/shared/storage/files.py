"""Files on a disk: their size and digest, and writes that hold either the old bytes or all of the new ones."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from components.shared.base.failure import Failure
from components.shared.base.os_errors import os_failure

# What ends in this is being written, by a process that may be dead: nobody reads it.
PARTIAL = ".part"


@dataclass(frozen=True)
class FileFact:
    """Size in bytes and sha256 (hex) of one file."""

    size: int
    sha256: str


def file_fact(path: Path) -> FileFact:
    """Size and sha256 of a file, read in bounded memory."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileFact(size=stream.tell(), sha256=digest)


def write_atomically(
    path: Path, content: bytes | str | Callable[[IO[bytes]], object], *, if_absent: bool = False
) -> bool:
    """Writes a file so that its name holds either the old bytes or all of the new ones, whatever dies when.

    Args:
        path: the file; its folder is made.
        content: the bytes or text, or a function that writes to the open binary stream.
        if_absent: leave a file that stands there as it is; of several processes exactly one wins.

    Returns:
        Whether the file holds the new bytes.

    Raises:
        Failure: the disk is full, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    except OSError as error:
        raise disk_failure(error, path) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            if callable(content):
                content(stream)
            else:
                stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)
        return rename_into_place(temporary, path, if_absent=if_absent)
    except OSError as error:
        raise disk_failure(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def rename_into_place(finished: Path, path: Path, *, if_absent: bool = False) -> bool:
    """Gives a finished file beside its target the target's name, for good: a crash of the machine does not undo it.

    Returns:
        False where `if_absent` is asked for and the name was taken.
    """
    if if_absent:
        try:
            path.hardlink_to(finished)
        except FileExistsError:
            return False
    else:
        finished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return True


def disk_failure(error: OSError, path: Path) -> Failure:
    """What a failed write means for a person."""
    return os_failure(error, path)
