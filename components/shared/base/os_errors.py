"""What an error of the operating system about a file means for a person."""

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


# What a person caused, and not a mistake in this code.
_KNOWN = _REMEDIES.keys() - {errno.ENOENT, errno.EEXIST, errno.EBUSY} | {errno.ENOSPC, errno.EDQUOT}


def is_known(error: OSError) -> bool:
    """Whether the state of the disk explains an error, wherever it comes from."""
    return error.errno in _KNOWN


def os_failure(
    error: OSError, path: Path, *, what: str = "Could not write", exit_code: ExitCode = ExitCode.FAILED
) -> Failure:
    """One sentence about a file that could not be used, with the remedy of its kind.

    Args:
        error: what the system said; one that no list knows is taken for a full disk.
        path: what it is about.
        what: could not be done, as the start of the sentence.
        exit_code: of the command that it ends.
    """
    remedy = _REMEDIES.get(error.errno or 0, _SPACE)
    return Failure(f"{what}: {error.strerror or error}", where=str(path), remedy=remedy, exit_code=exit_code)
