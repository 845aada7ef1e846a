"""The schema of MLflow's database: the revision that the installed MLflow needs, and its creation in a new file.

MLflow builds its schema by some sixty migrations, which take seconds. The project ships their result as
`mlflow_schema.sql`; if the installed MLflow needs another schema, the migrations run.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote as quoted
from typing import Any
from urllib.parse import quote

from components.shared.base.failure import Failure
from components.shared.tracking.database_errors import database_failure
from components.shared.tracking.local_address import sqlite_address

BUSY = 20.0  # seconds to wait for another process that uses the database, as MLflow does
_TEMPLATE = Path(__file__).with_suffix(".sql")
_HEADER = re.compile(r"-- MLflow (?P<mlflow>\S+), revision (?P<revision>\w+)")
_TABLE = re.compile(r'^CREATE TABLE "?(\w+)', re.MULTILINE)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to an existing database; a transaction of the block is committed at its end.

    Raises:
        Failure: SQLite reports an error.
    """
    connection = None
    try:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=BUSY)
        with connection:
            yield connection
    except sqlite3.Error as error:
        raise database_failure(error, str(path)) from error
    finally:
        if connection is not None:
            connection.close()


@cache
def latest_revision() -> str:
    """The revision of the schema that the installed MLflow needs."""
    header = _header()
    return header["revision"] if header["mlflow"] == version("mlflow") else _script().get_heads()[0]


@cache
def known_revisions() -> frozenset[str]:
    """All revisions that the installed MLflow knows."""
    return frozenset(script.revision for script in _script().walk_revisions())


@cache
def tables() -> frozenset[str]:
    """The names of the tables in the schema that ships with the project."""
    return frozenset(_TABLE.findall(_template()))


def schema_failure(revision: str | None, where: str, *, empty: bool = False) -> Failure:
    """The failure for a database of another MLflow: only one of an earlier MLflow can be upgraded.

    Args:
        revision: the revision of its schema, or None.
        where: the path of the file, or the address of the database.
        empty: whether nothing was recorded in it.
    """
    if revision is not None and revision not in known_revisions():
        return Failure(
            f"The registry has schema {revision}, which MLflow {version('mlflow')} does not know: a later one wrote it",
            where=where,
            remedy="use the MLflow that wrote it, or choose another home or database",
        )
    address = where if "://" in where else sqlite_address(Path(where))
    upgrade = f"back the database up, then run `mlflow db upgrade {quoted(address)}`; or use the MLflow that wrote it"
    return Failure(
        f"The registry has schema {revision or 'of no version'}, this MLflow needs {latest_revision()}",
        where=where,
        remedy=f"delete the file, in which nothing is recorded; or {upgrade}" if empty else upgrade,
    )


def create_tables(path: Path) -> None:
    """Creates the tables that the installed MLflow needs in an empty file.

    Raises:
        Failure: the disk is full.
    """
    if latest_revision() != _header()["revision"]:
        migrate(path)
        return
    with opened(path) as connection:
        connection.executescript(_template())


def migrate(path: Path) -> None:
    """Creates the tables in an empty file by the migrations of the installed MLflow.

    Raises:
        Failure: the disk is full.
    """
    # No public function of MLflow does this and closes the file again.
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
    from sqlalchemy.exc import SQLAlchemyError

    engine = create_sqlalchemy_engine(sqlite_address(path))
    try:
        _initialize_tables(engine)
    except SQLAlchemyError as error:
        raise database_failure(error, str(path)) from error
    finally:
        engine.dispose()


def write_template(target: Path = _TEMPLATE) -> None:
    """Writes the schema that results from the migrations of the installed MLflow."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "mlflow.db"
        made.touch()
        migrate(made)
        with opened(made) as connection:
            (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            lines = "\n".join(connection.iterdump())
    head = f"-- MLflow {version('mlflow')}, revision {revision}. Made by `make mlflow-schema`.\n"
    target.write_text(f"{head}{lines}\n", encoding="utf-8")


@cache
def _template() -> str:
    return _TEMPLATE.read_text(encoding="utf-8")


@cache
def _header() -> dict[str, str]:
    found = _HEADER.match(_template())
    assert found is not None
    return found.groupdict()


@cache
def _script() -> Any:
    from alembic.script import ScriptDirectory

    spec = find_spec("mlflow")
    assert spec is not None and spec.origin is not None
    return ScriptDirectory(str(Path(spec.origin).parent / "store" / "db_migrations"))


if __name__ == "__main__":
    write_template(*map(Path, sys.argv[1:]))
