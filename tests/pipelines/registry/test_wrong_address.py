"""An unusable MLflow is reported in one sentence."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking.run import connect
from tests.http_servers import free_port
from tests.servers import mlflow_server


def test_nothing_answers_at_the_address() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Failure, match="MLflow does not answer: ConnectionError") as raised:
        connect(address)
    assert (raised.value.where, raised.value.exit_code) == (address, ExitCode.UNREACHABLE)


def test_a_registry_of_an_older_schema(empty_database: Path, tmp_path: Path) -> None:
    database = tmp_path / "old.db"
    shutil.copyfile(empty_database, database)
    with sqlite3.connect(database) as connection:
        connection.execute("update alembic_version set version_num = '0c779009ac13'")
    with pytest.raises(
        Failure, match=r"has schema 0c779009ac13, this MLflow needs \w+ .*run `mlflow db upgrade sqlite"
    ):
        connect(f"sqlite:///{database}")


@pytest.mark.slow
def test_a_server_that_refuses_the_host_names_allowed_hosts(empty_database: Path, tmp_path: Path) -> None:
    shutil.copyfile(empty_database, tmp_path / "mlflow.db")
    with (
        mlflow_server(
            f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, "--allowed-hosts", "mlflow.example.org"
        ) as address,
        pytest.raises(Failure, match=r"refused the host name .*403.* with --allowed-hosts") as raised,
    ):
        connect(address)
    assert raised.value.exit_code == ExitCode.UNAUTHORISED
