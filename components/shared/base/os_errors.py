"""Translates an error of the operating system about a file into a failure with a remedy."""

from __future__ import annotations

import errno
from pathlib import Path

from components.shared.base.failure import ExitCode, Failure

_SPACE = "free some space or point --home, --store or TMPDIR at a disk that can be written, then run again"
_PERMISSION = "let this user read and write it, or choose another path"
_REMEDIES = {
    errno.EACCES: _PERMISSION,
    errno.EPERM: _PERMISSION,
    errno.EROFS: "the file system is read-only: choose a path that can be written",
    errno.EBUSY: "something is mounted or in use there: choose another path",
    errno.ENOENT: "it was removed, or its folder was: choose another path",
    errno.ENOTDIR: "a part of the path is a file where a folder is needed: choose another path",
    errno.EISDIR: "a folder is there where a file is needed: move it away, or choose another path",
    errno.EEXIST: "something else has this name: move it away, or choose another path",
    errno.ELOOP: "a link on the path leads to itself: remove the link, or choose another path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


# Errors that the state of the disk causes, as opposed to a mistake in this code.
_KNOWN = _REMEDIES.keys() - {errno.ENOENT, errno.EEXIST, errno.EBUSY} | {errno.ENOSPC, errno.EDQUOT}


def is_known(error: OSError) -> bool:
    """Whether the state of the disk explains the error, whichever code raised it."""
    return error.errno in _KNOWN


def os_failure(
    error: OSError, path: Path, *, what: str = "Could not write", exit_code: ExitCode = ExitCode.FAILED
) -> Failure:
    """The failure for a file that could not be used, with the remedy for its errno.

    Args:
        error: the error; an errno without its own remedy is treated as a full disk.
        path: the file.
        what: the start of the message, such as "Could not write".
        exit_code: the exit code of the command that the failure ends.
    """
    remedy = _REMEDIES.get(error.errno or 0, _SPACE)
    return Failure(f"{what}: {error.strerror or error}", where=str(path), remedy=remedy, exit_code=exit_code)
