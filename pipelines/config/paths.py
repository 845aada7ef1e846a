"""Makes paths absolute, for the processes that a command starts in other folders, and short, for people."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.os_errors import os_failure

# `Path` makes one slash of two, so that `--home s3://bucket` would make a folder called `s3:`.
_SCHEME = r"(s3|gs|hf|https?|file|models|runs):"


def absolute(path: Path | str, option: str) -> Path:
    """Resolves `~`, links and relative parts. The path need not exist.

    Args:
        path: the path as the user wrote it.
        option: the name of the option, for messages.

    Raises:
        Failure: the path has no absolute form that all libraries read in the same way.
    """
    path = Path(path)
    if re.fullmatch(_SCHEME, path.parts[0] if path.parts else ""):
        raise _usage(
            f"{option} is not a path: an address needs two slashes after its scheme",
            path,
            "write s3://bucket/prefix where an address is taken, or the path of a folder in full",
        )
    try:
        path = path.expanduser()
        if not path.is_absolute():
            require_working_folder()
        path = path.resolve()
        path.stat()  # finds a loop of links, which later versions of Python leave unresolved
    except FileNotFoundError:
        pass
    except OSError as error:
        raise os_failure(error, path, what="The path cannot be used", exit_code=ExitCode.USAGE) from error
    except RuntimeError as error:
        if str(path).startswith("~"):
            raise _usage("The user in the path does not exist", path, f"write the path of {option} in full") from error
        raise _usage(
            "The path contains a loop of symbolic links", path, f"remove it, or choose another {option}"
        ) from error
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise _usage("The path is not UTF-8", path, f"choose another {option}") from None
    return path


def shorten(path: str) -> str:
    """Makes a path relative to the working folder, if it is below it."""
    with suppress(FileNotFoundError, ValueError):  # the working folder was deleted, or is another one
        return str(Path(path).relative_to(Path.cwd()))
    return path


def require_working_folder() -> None:
    """Requires that the working folder exists.

    Raises:
        Failure: the working folder was deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise _usage(
            "The working folder was deleted", Path(os.environ.get("PWD", ".")), "cd to another folder, then run again"
        ) from None


def _usage(what: str, path: Path, remedy: str) -> Failure:
    shown = str(path).encode(errors="backslashreplace").decode()
    return Failure(what, where=shown, remedy=remedy, exit_code=ExitCode.USAGE)
