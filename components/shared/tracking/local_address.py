"""Addresses by which MLflow finds files of this machine: every path has one, and the address gives the path back."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

# SQLAlchemy decodes what follows `sqlite:///` and ends it at a question mark; a `#` begins a fragment elsewhere.
_PLAIN = re.compile(r"[^%?#\x00-\x1f\x7f]*")
_SQLITE = re.compile(r"sqlite(?:\+pysqlite)?:///(?P<path>[^?]*)(?P<query>\?.*)?", re.DOTALL)
_FILE = re.compile(r"file:(?://(?:localhost)?)?(?P<path>/.*)", re.DOTALL)


def sqlite_address(path: Path) -> str:
    """The address of a SQLite database.

    Args:
        path: absolute, and of UTF-8.
    """
    if _PLAIN.fullmatch(str(path)):
        return f"sqlite:///{path}"
    # MLflow makes the folder that it reads from an address in the first form, and reads it without decoding.
    return f"sqlite+pysqlite:///{quote(str(path))}"


def sqlite_path(address: str) -> Path | None:
    """The file of a SQLite database, absolute; None where the address is of no file: a server, or memory."""
    found = _SQLITE.fullmatch(address)
    if found is None or found["query"]:
        return None
    name = unquote(found["path"])
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()


def folder_address(path: Path) -> str:
    """The address of a folder of artifacts.

    Args:
        path: absolute, and of UTF-8.
    """
    # Not Path.as_uri, which encodes in the charset of the locale, where MLflow decodes UTF-8.
    return f"file://{quote(str(path))}"


def folder_path(address: str) -> Path | None:
    """The folder of artifacts at an address, which may be a path; None where it is not on this machine."""
    if found := _FILE.fullmatch(address):
        return Path(unquote(found["path"]))
    return Path(address) if address.startswith("/") else None
