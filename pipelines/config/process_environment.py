"""What libraries ask of the system about this process, and what a process below it needs to find this code."""

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
    """Gives this process, and those below it, what libraries take for granted, and modules from where ours come.

    A user without an entry in the system's list has no name, and without HOME no folder; a shell's mktemp, other than
    Python, looks nowhere but in TMPDIR.
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
    """Variables of a process below this one: it finds this code where this process did, and imports nothing that
    happens to be in the working folder.
    """
    variables = {"PYTHONSAFEPATH": "1"}
    installed = str(_ROOT) in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    if str(_ROOT) in _import_paths() and not installed:
        named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        variables["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(_ROOT), *filter(None, named)]))
    return variables


def _import_paths() -> set[str]:
    with suppress(FileNotFoundError):  # the working folder, which relative paths begin at, was deleted
        return {str(Path(path).absolute()) for path in sys.path}
    return set(sys.path)


def _private_folder() -> str:
    """A folder for this user's caches that no other user can have filled."""
    folder = Path(tempfile.gettempdir()) / f"wikigpt-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        return tempfile.mkdtemp(prefix="wikigpt-")
    return str(folder)
