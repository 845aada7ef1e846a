"""Uses UTF-8 in every locale: other machines read the files, and steps read the files of the command.

Python takes the encoding of files, arguments and pipes from the locale, and libraries do not change it.
"""

from __future__ import annotations

import codecs
import locale
import os
import sys
from io import TextIOWrapper

# For child processes, whose output goes to a log that is read as UTF-8.
CHILDREN = {"PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}


def use_utf8() -> None:
    """Makes this command and its children read and write UTF-8, and escape what the terminal cannot show.

    In another locale the command restarts in Python's UTF-8 mode, in the same process. Only a terminal keeps its own
    encoding.
    """
    os.environ["PYTHONUTF8"] = CHILDREN["PYTHONUTF8"]
    if (
        _normalized(sys.getfilesystemencoding()) != "utf-8"
        or _normalized(locale.getpreferredencoding(False)) != "utf-8"
    ):
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding=_encoding_of(stream), errors="backslashreplace")


def _encoding_of(stream: TextIOWrapper) -> str:
    """Returns the encoding that PYTHONIOENCODING sets, else that of the terminal, else UTF-8."""
    if os.environ.get("PYTHONIOENCODING"):
        return stream.encoding
    terminal = _normalized(locale.getencoding())  # UTF-8 mode does not change this value
    # Terminals under the locale C show UTF-8 more often than not, and that locale names ASCII only.
    return terminal if stream.isatty() and terminal != "ascii" else "utf-8"


def _normalized(encoding: str) -> str:
    return codecs.lookup(encoding).name
