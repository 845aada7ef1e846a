"""Each command finds registered models of any name that MLflow accepts, and no message shows a raw filter."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import registry
from components.shared.tracking.mlflow_filter import all_of, equals
from pipelines.registry.models import models
from pipelines.registry.references import resolve
from tests.pipelines.conftest import Command

ODD = [
    "it's", 'say "hi"', "bo\"th's", "back`tick", "per%cent", "under_score", "ünï-汉字", "back\\slash", "end\\",
    "end'\\", "[red]a[bold]", "name='x' OR 1=1", "a = b", "x;y--z", " lead", "a''b", "models", "#1", "?q", "🐛",
]  # fmt: skip


@pytest.fixture(scope="module")
def client(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """A registry with one version per name; no test changes it."""
    database = tmp_path_factory.mktemp("names") / "mlflow.db"
    shutil.copyfile(empty_database, database)
    client = MlflowClient(f"sqlite:///{database}")
    for name in ["plain", *ODD]:
        client.create_registered_model(name)
        tags = {registry.WEIGHTS_DIGEST: "d" * 64, registry.REUSE_KEY: "r" * 32, registry.CORPUS: "[red]"}
        client.create_model_version(name, "file:///nowhere", tags=tags)
        client.set_registered_model_alias(name, registry.CHAMPION, "1")
    return client


@pytest.mark.slow
def test_versions_of_each_name_are_those_of_that_name(client: MlflowClient) -> None:
    for name in ODD:
        assert [version.name for version in registry.versions(client, name)] == [name]
        assert [version.name for version in registry.versions_of(client, name, "d" * 64)] == [name]
        assert registry.versions_of(client, name, "e" * 64) == []
        assert registry.versions_of_key(client, name, "r" * 32)[0].name == name
        assert [row.name for row in models(client, name)] == [name]
        assert (resolve(client, "1", name).name, resolve(client, "@champion", name).name) == (name, name)


@pytest.mark.parametrize("name", ["no'ne", 'no"ne', "no\"n'e", "no%", "n\\", "x" * 9000, ""])
def test_a_missing_name(client: MlflowClient, name: str) -> None:
    assert registry.versions(client, name) == []
    with pytest.raises(Failure) as caught:
        resolve(client, "1", name)
    assert caught.value.what.startswith("There is no model")
    assert "filter" not in str(caught.value)
    assert len(caught.value.what) < 200


@pytest.mark.parametrize("reference", ["9" * 20, "9" * 5000, "0", "²", "@", "", "it's", "models:/plain/²"])
def test_a_missing_version(client: MlflowClient, reference: str) -> None:
    with pytest.raises(Failure) as caught:
        resolve(client, reference, "plain")
    assert caught.value.exit_code is ExitCode.USAGE
    assert len(str(caught.value)) < 400
    assert "filter" not in str(caught.value)


def test_an_upper_case_name_names_the_nearest(client: MlflowClient) -> None:
    with pytest.raises(Failure, match=r"did you mean plain\?"):
        resolve(client, "1", "PLAIN")


@pytest.mark.parametrize("name", ["a/b", "a:b", "a?b", "", " ", ".", "..", "x" * 201, "a\nb"])
def test_a_name_that_mlflow_or_its_addresses_do_not_take(command: Command, name: str) -> None:
    code, _, err = command("promote", "1", "--to", name)
    assert code == ExitCode.USAGE
    assert "Invalid value for '--to': must be the name of a registered model" in " ".join(err.replace("│", " ").split())


def test_the_list_shows_every_name_as_it_is(client: MlflowClient, command: Command, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    code, out, _ = command("models")
    lines = out.splitlines()
    assert code == 0
    for name in ODD:
        assert f"{name}  corpus [red]" in lines


def test_the_list_of_a_missing_model_names_the_existing_ones(client, command: Command, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", client.tracking_uri)
    code, out, err = command("models", "--model", "PLAIN", "--json")
    assert (code, out) == (ExitCode.USAGE, "")
    assert err.startswith("wikigpt: There is no model 'PLAIN'") and "did you mean plain?" in err


@pytest.mark.slow
def test_every_condition_is_one_that_mlflow_reads(client: MlflowClient) -> None:
    """Every word of three characters that have a meaning in the filter language."""
    for letters in itertools.product("a'\"\\`%= ", repeat=3):
        condition = equals("name", "".join(letters))
        found = client.search_model_versions(all_of(condition, f"tags.`{registry.WEIGHTS_DIGEST}` = 'd'"))
        assert list(found) == []
