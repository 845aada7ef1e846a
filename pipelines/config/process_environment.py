"""The environment of this process, which libraries rely on, and of its child processes, which must find this code."""

from __future__ import annotations

import getpass
import os
import sys
import sysconfig
import tempfile
from contextlib import suppress
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def complete_environment() -> None:
    """Sets the variables that libraries need in this process and its children, and the import path of this code.

    A user without an entry in the password database has no name, and without HOME no home folder. Unlike Python, the
    mktemp of a shell uses only TMPDIR.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = _private_folder()
    if (named := os.environ.get("TMPDIR")) and not Path(named).is_dir():
        os.environ["TMPDIR"] = tempfile.gettempdir()
    os.environ.update(child_variables())


def child_variables() -> dict[str, str]:
    """Variables for child processes: they import this code from where this process did, and nothing from the working
    folder.
    """
    variables = {"PYTHONSAFEPATH": "1"}
    installed = str(_ROOT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    if str(_ROOT) in _import_paths() and not installed:
        named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(_ROOT), *filter(None, named)]))
    return variables


def _import_paths() -> set[str]:
    with suppress(FileNotFoundError):  # the working folder, from which relative paths start, was deleted
        return {str(Path(path).absolute()) for path in sys.path}
    return set(sys.path)


def _private_folder() -> str:
    """A folder for this user's caches that no other user can write to."""
    folder = Path(tempfile.gettempdir()) / f"wikigpt-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        return tempfile.mkdtemp(prefix="wikigpt-")
    return str(folder)
