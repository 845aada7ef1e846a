"""Every error of SQLite, SQLAlchemy or MLflow's schema becomes one sentence with the right remedy."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.step import _failure_of
from components.shared.tracking import mlflow_schema
from components.shared.tracking.database_errors import database_failure
from components.shared.tracking.mlflow_database import prepare_database
from components.shared.tracking.run import Tracking, connect, translate_mlflow_errors
from tests.pipelines.local.home.conftest import wikigpt


@pytest.fixture
def database(tmp_path: Path) -> Path:
    (tmp_path / "layout").write_text("1\n")
    prepare_database(tmp_path / "mlflow.db")
    return tmp_path / "mlflow.db"


def no_database(path: Path) -> None:
    path.write_text("A recipe for bread.\n" * 100)


def damaged(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * 8000 + content[8100:])


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def newer(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")


def older(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0c779009ac13'")


def of_two_schemas(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")


CASES: list[tuple[Callable[[Path], None], str, str]] = [
    (no_database, "The file is not a SQLite database", "move it away"),
    (damaged, "The database is damaged", "restore it from a backup, or move it away"),
    (cut_off, "The database is damaged", "restore it from a backup, or move it away"),
    (a_folder, "MLflow's database is not a file", "move away what is there"),
    (newer, "has schema fedcba987654, which MLflow", "use the MLflow that wrote it"),
    (of_two_schemas, "The database has no schema of MLflow", "restore it from a backup"),
    (older, "has schema 0c779009ac13, this MLflow needs", "mlflow db upgrade sqlite:///"),
]


@pytest.mark.parametrize(("spoil", "what", "remedy"), CASES)
def test_a_database_that_cannot_be_used(database: Path, spoil: Callable[[Path], None], what: str, remedy: str) -> None:
    spoil(database)
    with pytest.raises(Failure, match=what) as raised:
        connect(f"sqlite:///{database}")
    assert remedy in raised.value.remedy
    assert str(database) in raised.value.where
    assert ("upgrade" in str(raised.value)) == (spoil is older)


@pytest.mark.parametrize("spoil", [no_database, cut_off])
def test_what_the_remedy_says_works(database: Path, spoil: Callable[[Path], None]) -> None:
    spoil(database)
    database.rename(database.with_name("aside"))
    Tracking.open("a-run", uri=f"sqlite:///{database}")


OTHERS = (("gc",), ("ui", "--port", "50999"), ("run", "--corpus", "sample"))


@pytest.mark.parametrize("command", [("models",), *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)])
def test_the_command_says_it_in_one_sentence(database: Path, command: tuple[str, ...]) -> None:
    newer(database)
    ended = wikigpt(*command, "--home", database.parent)
    assert (ended.code, ended.is_one_sentence) == (1, True), ended
    assert "a later one wrote it" in ended.err


def test_a_lock_that_another_process_keeps(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow_schema, "BUSY", 0.1)
    with sqlite3.connect(database) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Failure, match="The database is locked by another process"):
            connect(f"sqlite:///{database}")


def table_is_gone(client: MlflowClient, database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE registered_models")
    client.search_registered_models()


def damaged_meanwhile(client: MlflowClient, database: Path) -> None:
    client.search_experiments()
    database.write_bytes(b"SQLite format 3\0" + b"\xff" * 20_000)
    client.search_registered_models()


def disk_fills(client: MlflowClient, database: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (database.stat().st_size, before[1]))
    try:
        for number in range(1000):
            client.create_experiment(f"{number} " + "x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("use", "what"),
    [
        (table_is_gone, "The database lacks tables of MLflow"),
        (damaged_meanwhile, "The database is damaged|The file is not a SQLite database"),
        (disk_fills, "The disk failed under the database, or is full: disk I/O error"),
    ],
)
def test_what_comes_later_is_said_as_plainly(
    database: Path,
    use: Callable[[MlflowClient, Path], None],
    what: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    client = connect(f"sqlite:///{database}")
    with pytest.raises(Failure, match=what) as raised, translate_mlflow_errors(client):
        use(client, database)
    assert str(database) in raised.value.where
    assert "Traceback" not in capfd.readouterr().err


def test_in_a_step_it_is_a_failure_too(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    tracking = Tracking.open("a-run")
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE params")
    with pytest.raises(Exception, match="no such table") as raised:
        tracking.params({"a": 1})
    failure = _failure_of(raised.value, "train")
    assert "The database has another schema than this MLflow needs: no such table: params" in failure.what
    assert failure.where == str(database)


def test_a_server_of_a_database_that_does_not_answer() -> None:
    from sqlalchemy.exc import OperationalError

    said = "connection failed: Connection refused\n\tIs the server running?"
    failure = database_failure(OperationalError("SELECT 1", {}, Exception(said)), "postgresql://me:secret1@host/mlflow")
    assert failure.exit_code is ExitCode.UNREACHABLE
    assert str(failure) == (
        "The database of MLflow does not answer: connection failed: Connection refused"
        " (postgresql://[redacted]@host/mlflow): start the server, or fix MLFLOW_TRACKING_URI."
    )


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match=r"driver of this database is not installed: No module named 'MySQLdb'"):
        connect("mysql://host/mlflow")


def test_a_foreign_database_is_not_ours_to_replace(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "own.db") as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.execute("INSERT INTO recipes VALUES ('bread')")
    prepare_database(tmp_path / "own.db")
    with sqlite3.connect(tmp_path / "own.db") as connection:
        assert connection.execute("SELECT name FROM recipes").fetchall() == [("bread",)]
