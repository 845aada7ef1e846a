"""The registry that is read without MLflow is the one that MLflow reads."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.tracking import registry
from components.shared.tracking.local_address import sqlite_address
from components.shared.tracking.sqlite_registry import SqliteRegistry, sqlite_registry

ATTRIBUTES = ("name", "creation_timestamp", "run_id", "source", "tags")


@pytest.fixture
def client(tracking_uri: str, tmp_path: Path) -> MlflowClient:
    """Two models, a prompt, a deleted version, and what a name and a tag may contain."""
    client = MlflowClient(tracking_uri)
    for name in ("wikigpt", 'it\'s 100 % "ours"'):
        client.create_registered_model(name)
        for number in (1, 2, 3):
            client.create_model_version(
                name, str(tmp_path / f"files {number}"), description=f"card {number}", tags={"a": "ä\n", "b/c": ""}
            )
        client.delete_model_version(name, "2")
        client.set_registered_model_alias(name, "champion", "1")
    client.create_registered_model("empty")
    client.register_prompt("prompt", template="Continue.")
    return client


def local(client: MlflowClient) -> SqliteRegistry:
    found = sqlite_registry(client.tracking_uri)
    assert found is not None
    return found


def test_models_and_versions_are_those_that_mlflow_reads(client: MlflowClient) -> None:
    by_mlflow, here = registry.registered_models(client), registry.registered_models(local(client))
    assert [model.name for model in here] == sorted(model.name for model in by_mlflow)
    assert len(here) == 3
    aliases = {model.name: {alias: str(version) for alias, version in model.aliases.items()} for model in by_mlflow}
    assert {model.name: model.aliases for model in here} == aliases
    for model in aliases:
        theirs, ours = registry.all_versions(client, model), registry.all_versions(local(client), model)
        assert [version.version for version in ours] == [str(version.version) for version in theirs]
        for mine, other in zip(ours, theirs, strict=True):
            for name in ATTRIBUTES:
                assert getattr(mine, name) == (getattr(other, name) or ""), name
            assert mine.description == (other.description or "")
            assert str(mine.folder) == client.get_model_version_download_uri(model, mine.version)


def test_a_missing_model_has_no_versions(client: MlflowClient) -> None:
    assert registry.all_versions(local(client), "nothing") == registry.all_versions(client, "nothing") == []


@pytest.mark.parametrize("variable", ["MLFLOW_REGISTRY_URI", "MLFLOW_WORKSPACE", "MLFLOW_ENABLE_WORKSPACES"])
def test_a_variable_may_name_another_registry(
    variable: str, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "x")
    assert sqlite_registry(client.tracking_uri) is None


def test_mlflow_is_asked_where_it_has_no_tables_and_on_a_server(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db")) as database, database:
        database.execute("CREATE TABLE of_the_user (id)")
    for name in ("own.db", "absent.db"):
        assert sqlite_registry(sqlite_address(tmp_path / name)) is None
    assert not (tmp_path / "absent.db").exists()
    assert sqlite_registry("http://127.0.0.1:5000") is None


def test_a_database_of_another_mlflow_is_refused(client: MlflowClient) -> None:
    with closing(sqlite3.connect(local(client).path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'later'")
    with pytest.raises(Failure, match="schema later"):
        sqlite_registry(client.tracking_uri)
