"""Size and digest of files, and atomic writes."""

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

# A file with this suffix is still being written, or its writer has died. Nothing reads such a file.
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
    """Writes a file atomically: after a crash at any moment it contains either the old bytes or all of the new ones.

    Args:
        path: the file; its folder is created.
        content: the bytes or text, or a function that writes to the open binary stream.
        if_absent: keep an existing file; exactly one of several concurrent writers succeeds.

    Returns:
        Whether the new bytes were written.

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
    """Renames a finished file to its target in the same folder, durably: a crash of the machine does not undo it.

    Returns:
        False if `if_absent` is set and the target existed.
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
    """The failure for a write that failed."""
    return os_failure(error, path)
