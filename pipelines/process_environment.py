"""What libraries ask of the system about this process, and what a process below it needs to find this code."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_WHERE = "from importlib.util import find_spec; print((s := find_spec('pipelines')) and s.origin)"


def complete_environment() -> None:
    """Gives this process, and those below it, what libraries take for granted: a user's name and folders that exist.

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


def child_variables() -> dict[str, str]:
    """Variables of a process below this one: its modules come from where this code's do, and never from files that
    happen to be in the working folder.
    """
    safe = {"PYTHONSAFEPATH": "1"}
    found = subprocess.run(
        [sys.executable, "-c", _WHERE], env={**os.environ, **safe}, capture_output=True, text=True
    ).stdout.strip()
    if found and Path(found).resolve().parents[1] == _ROOT.resolve():
        return safe
    # Not installed: this process found the code by its own working folder, or by what it was started with.
    others = os.environ.get("PYTHONPATH")
    return safe | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *([others] if others else [])])}


def _private_folder() -> str:
    """A folder for this user's caches that no other user can have filled."""
    folder = Path(tempfile.gettempdir()) / f"wikigpt-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or folder.is_symlink():
        return tempfile.mkdtemp(prefix="wikigpt-")
    return str(folder)
