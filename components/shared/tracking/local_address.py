"""Converts paths of this machine to addresses for MLflow and back, for every path."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

# SQLAlchemy percent-decodes the text after `sqlite:///` up to a question mark; other parsers end it at a `#`.
_PLAIN = re.compile(r"[^%?#\x00-\x1f\x7f]*")
_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<path>[^?]*)(?P<query>\?.*)?", re.DOTALL)
_FILE = re.compile(r"file:(?://(?:localhost)?)?(?P<path>/.*)", re.DOTALL)


def sqlite_address(path: Path) -> str:
    """The address of a SQLite database.

    Args:
        path: an absolute path in UTF-8.
    """
    if _PLAIN.fullmatch(str(path)):
        return f"sqlite:///{path}"
    # MLflow creates the folder of an address in the first form and does not decode it.
    return f"sqlite+pysqlite:///{quote(str(path))}"


def sqlite_path(address: str) -> Path | None:
    """The absolute path of a SQLite database; None if the address is that of a server or of a database in memory."""
    found = _SQLITE.fullmatch(address)
    if found is None or found["query"]:
        return None
    name = unquote(found["path"])
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()


def folder_address(path: Path) -> str:
    """The address of a folder of artifacts.

    Args:
        path: an absolute path in UTF-8.
    """
    # Not Path.as_uri, which encodes in the charset of the locale, whereas MLflow decodes UTF-8.
    return f"file://{quote(str(path))}"


def folder_path(address: str) -> Path | None:
    """The folder of artifacts at an address or path; None if it is not on this machine."""
    if found := _FILE.fullmatch(address):
        return Path(unquote(found["path"]))
    return Path(address) if address.startswith("/") else None
