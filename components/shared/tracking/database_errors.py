"""Translates errors of SQLAlchemy and SQLite into failures with a remedy."""

from __future__ import annotations

import sqlite3

from components.shared.base.failure import ExitCode, Failure

_LOCKED = ("The database is locked by another process", "end that process (`fuser` names it), then run again")
_WRITABLE = "let this user write the file and its folder, or choose another home by --home"
_SPACE = "free some space, then run again"
# By the prefix of SQLite's error name.
_KINDS = {
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_READONLY": ("The database is read-only", _WRITABLE),
    "SQLITE_PERM": ("This user may not open the database", _WRITABLE),
    "SQLITE_CANTOPEN": ("The database cannot be opened, or its folder cannot be written", _WRITABLE),
    "SQLITE_NOTADB": (
        "The file is not a SQLite database",
        "move it away: the next run creates a new one",
    ),
    "SQLITE_CORRUPT": (
        "The database is damaged",
        "restore it from a backup, or move it away: the next run creates a new one, which contains no version",
    ),
    "SQLITE_FULL": ("The disk is full, and the database cannot be written", _SPACE),
    "SQLITE_IOERR": (
        "The disk failed under the database, or is full",
        "free some space or check the disk, then run again",
    ),
    "SQLITE_NOMEM": ("There is too little memory for the database", "free some memory, then run again"),
    "SQLITE_TOOBIG": ("A value is too long for the database", "see the log"),
}
_SCHEMA = ("no such table", "no such column", "has no column named", "duplicate column name")


def database_failure(error: Exception, where: str) -> Failure:
    """The failure for an error of SQLite, or of SQLAlchemy with any database.

    Args:
        error: a `sqlite3.Error` or a `SQLAlchemyError`.
        where: the path of the file or the address of the database.
    """
    inner = getattr(error, "orig", None) or error
    lines = str(inner).strip().splitlines()
    message = lines[0][:300] if lines else type(inner).__name__
    if not isinstance(inner, sqlite3.Error):
        return _server_failure(error, message, where)
    name = getattr(inner, "sqlite_errorname", "")
    for kind, (what, remedy) in _KINDS.items():
        if name.startswith(kind):
            return Failure(f"{what}: {message}", where=where, remedy=remedy)
    if any(phrase in message for phrase in _SCHEMA):
        return Failure(
            f"The database has another schema than this MLflow needs: {message}",
            where=where,
            remedy="use the MLflow that wrote it, restore it from a backup, or choose another home by --home",
        )
    return Failure(
        f"The database reports an error: {message}",
        where=where,
        remedy="correct what the message names, then run again",
    )


def _server_failure(error: Exception, message: str, where: str) -> Failure:
    from sqlalchemy.exc import InterfaceError, OperationalError

    if isinstance(error, (OperationalError, InterfaceError)):
        return Failure(
            f"The database of MLflow does not answer: {message}",
            where=where,
            remedy="start the server, or fix MLFLOW_TRACKING_URI",
            exit_code=ExitCode.UNREACHABLE,
        )
    return Failure(
        f"The database of MLflow reports an error: {message}",
        where=where,
        remedy="correct what the message names, or MLFLOW_TRACKING_URI",
    )
