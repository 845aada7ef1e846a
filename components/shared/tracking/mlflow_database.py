"""Creates MLflow's SQLite database atomically, and checks an existing one before MLflow opens it.

MLflow creates the file in place and without a lock. An interrupted creation leaves an unusable file, because a
migration cannot run twice. This module therefore creates the database under a lock and a temporary name.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from enum import Enum
from pathlib import Path
from stat import S_ISREG

from components.shared.base.failure import Failure
from components.shared.base.os_errors import os_failure
from components.shared.storage.files import PARTIAL, rename_into_place
from components.shared.tracking.file_lock import file_lock
from components.shared.tracking.local_address import folder_address
from components.shared.tracking.mlflow_schema import (
    create_tables,
    known_revisions,
    latest_revision,
    opened,
    schema_failure,
    tables,
)

ARTIFACTS = "mlartifacts"  # the folder beside the database for the artifacts of runs and models
_QUIET = 3.0  # seconds; a process that uses no lock may still be creating a file that changed since
_DEFAULT = (
    "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time)"
    " VALUES (0, 'Default', ?, 'active', ?, ?)"
)


class State(Enum):
    """The state of the file at the path of a database."""

    ABSENT = "absent"
    UNFINISHED = "unfinished"  # its creation was interrupted, and nothing is recorded in it
    USABLE = "usable"


def prepare_database(path: Path) -> None:
    """Creates the database of MLflow if it is absent or unfinished.

    Args:
        path: the absolute path of the file.

    Raises:
        Failure: the file cannot be used, because it is locked, damaged, not a database, or of another version of
            MLflow; or it cannot be created.
    """
    if examine(path) is State.USABLE:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_failure(error, path.parent) from error
    with file_lock(path.with_name(f".{path.name}.lock")):
        while (state := examine(path)) is State.UNFINISHED and 0 <= time.time() - path.stat().st_mtime < _QUIET:
            time.sleep(0.1)
        if state is not State.USABLE:
            _create(path)


def examine(path: Path) -> State:
    """The state of a database. Opening it rolls back the transaction of a killed process.

    Raises:
        Failure: see `prepare_database`.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return State.ABSENT
    except OSError as error:
        raise os_failure(error, path, what="Could not read the database") from error
    if not S_ISREG(mode):
        raise Failure(
            "MLflow's database is not a file",
            where=str(path),
            remedy="move away what is there, or choose another home by --home",
        )
    with opened(path) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if found and "experiments" not in found:
            return State.USABLE  # a database of the user, to which MLflow adds its tables
        rows = connection.execute("SELECT version_num FROM alembic_version") if "alembic_version" in found else ()
        revision = next((row[0] for row in rows), None)
        if revision == latest_revision():
            return State.USABLE
        empty = not any(_holds_rows(connection, table) for table in found)
    if empty and not tables() <= found and revision in (None, *known_revisions()):
        return State.UNFINISHED
    raise schema_failure(revision, str(path), empty=empty)


def _holds_rows(connection: sqlite3.Connection, table: str) -> bool:
    """Whether a table contains rows other than those of a new database."""
    if table in ("alembic_version", "workspaces"):
        return False
    condition = " WHERE experiment_id != 0" if table == "experiments" else ""
    return connection.execute(f'SELECT 1 FROM "{table}"{condition} LIMIT 1').fetchone() is not None


def _create(path: Path) -> None:
    _remove_temporary_files(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=PARTIAL, dir=path.parent)
    except OSError as error:
        raise os_failure(error, path) from error
    temporary = Path(name)
    try:
        os.fchmod(handle, 0o644)
        create_tables(temporary)
        now = int(time.time() * 1000)
        with opened(temporary) as connection:
            connection.execute(_DEFAULT, (folder_address(path.parent / ARTIFACTS / "0"), now, now))
        os.fsync(handle)
        # SQLite would apply the journal of the previous file to the new one.
        for suffix in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        rename_into_place(temporary, path)
    except OSError as error:
        raise os_failure(error, path) from error
    finally:
        os.close(handle)
        _remove_temporary_files(path)


def _remove_temporary_files(path: Path) -> None:
    """Deletes temporary files: the caller holds the lock, so the processes that created them have died."""
    for left in path.parent.iterdir():
        if left.name.startswith(f".{path.name}.") and PARTIAL in left.name:
            left.unlink(missing_ok=True)
