"""A variable of MLflow that cannot be used is named itself; the server is not blamed, and no credential is shown."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking.mlflow_variables import check_mlflow_variables
from components.shared.tracking.run import connect
from pipelines.local.home import Home, existing_tracking_uri, tracking_uri
from tests.pipelines.conftest import Command


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("MLFLOW_SQLALCHEMYSTORE_POOL_SIZE", "x", "must be a whole number, got 'x'"),
        ("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "Foo", "is 'Foo'"),
        ("MLFLOW_SQLALCHEMYSTORE_ECHO", "zz", "must be true or false, got 'zz'"),
        ("MLFLOW_CONFIGURE_LOGGING", "zz", "must be true or false, got 'zz'"),
        ("MLFLOW_LOGGING_LEVEL", "banana", "is 'banana'"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "x", "must be a whole number from 1 to 3600, got 'x'"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "-5", "must be from 1 to 3600, got -5; the nearest is 1"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "100000", "must be from 0 to 9, got 100000; the nearest is 9"),
    ],
)
def test_a_variable_that_cannot_be_used(command: Command, monkeypatch, name: str, value: str, what: str) -> None:
    monkeypatch.setenv(name, value)
    code, _, said = command("models")
    assert code == ExitCode.USAGE
    assert f"{name} {what}" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"])
@pytest.mark.parametrize("value", ["secretOfTheTest\n", " secretOfTheTest", "secretOf\x7fTheTest"])
def test_a_credential_with_a_line_break(name: str, value: str) -> None:
    with pytest.raises(Failure, match=f"{name} contains a line break, or begins or ends with a space") as caught:
        check_mlflow_variables({name: value})
    assert caught.value.exit_code is ExitCode.UNAUTHORISED
    assert "secretOf" not in str(caught.value)


def test_what_mlflow_takes_is_taken() -> None:
    check_mlflow_variables(
        {
            "MLFLOW_TRACKING_PASSWORD": "with blanks inside",
            "MLFLOW_LOGGING_LEVEL": "debug",
            "MLFLOW_SQLALCHEMYSTORE_POOL_RECYCLE": "-1",
            "MLFLOW_SQLALCHEMYSTORE_ECHO": "TRUE",
            "MLFLOW_OF_ANOTHER_VERSION": "banana",
        }
    )


@pytest.mark.parametrize(
    "address",
    ["http://[::1", "http://", "http://127.0.0.1:99999", "http://127.0.0.1:x", "banana", "/tmp/folder", "foo://x"],
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(Failure, match="MLflow cannot record at this address") as caught:
        connect(address)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_blank_names_no_mlflow(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "layout").write_text("1\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", " \n")
    assert existing_tracking_uri(tmp_path) == tracking_uri(Home(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"


def test_the_server_of_a_database_that_is_away_is_not_waited_for() -> None:
    begun = time.monotonic()
    with pytest.raises(Failure, match="The database of MLflow does not answer") as caught:
        connect("postgresql+psycopg://me:secret1@127.0.0.1:1/mlflow")
    assert caught.value.exit_code is ExitCode.UNREACHABLE
    assert time.monotonic() - begun < 10
