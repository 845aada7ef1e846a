"""A home that was moved or copied works at its new path, and nothing is written to the old path."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.base.failure import Failure
from components.shared.tracking.local_address import folder_path
from components.shared.tracking.run import Tracking, connect
from pipelines.cli.registry import registry_of
from pipelines.local.home import Home, existing_tracking_uri, open_home
from pipelines.local.run import Result, _to_record
from pipelines.local.summary import _reports_of
from pipelines.registry.export import export
from pipelines.registry.references import resolve
from tests.pipelines.local.home.conftest import TINY, read_only, wikigpt
from tests.registry import make_folders, make_step, register


@pytest.fixture(scope="module")
def recorded(
    tmp_path_factory: pytest.TempPathFactory,
    hugging_face_folder: Path,
) -> Path:
    """A home with one version; copied, never used."""
    root = tmp_path_factory.mktemp("recorded")
    before = dict(os.environ)
    try:
        home = open_home(root / "first home")
        os.environ.update(MLFLOW_TRACKING_URI=home.tracking_uri, WIKIGPT_STORE=str(home.store))
        register(make_step("run-1"), make_folders(root / "a", hugging_face_folder, reuse_key="1" * 32))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return home.root


@pytest.fixture
def home(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home at a path of the test, as if it had been created there."""
    shutil.copytree(recorded, tmp_path / "before")
    open_home(tmp_path / "before")
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "before" / "store"))
    return tmp_path / "before"


def addresses(home: Path) -> set[str]:
    """Every text in the database with an address of artifacts."""
    with sqlite3.connect(home / "mlflow.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        values = {value for table in tables for row in connection.execute(f'SELECT * FROM "{table}"') for value in row}
    return {
        value for value in values if isinstance(value, str) and (value.startswith("file:") or "mlartifacts" in value)
    }


@pytest.mark.parametrize("name", ["after", "after %41 #?", "before/within"])
def test_versions_are_found_and_new_runs_stay_within(home: Path, tmp_path: Path, name: str) -> None:
    moved = tmp_path / "elsewhere" / name
    moved.parent.mkdir(parents=True)
    home.rename(moved)
    with registry_of(moved) as client:
        assert (export(client, resolve(client, "1"), tmp_path / "out") / "config.json").is_file()
    tracking = Tracking.open("a-second-run", uri=open_home(moved).tracking_uri)
    tracking.artifact(tmp_path / "out" / "config.json")
    assert not home.exists()
    assert addresses(moved)
    assert all((folder_path(address) or Path()).is_relative_to(moved) for address in addresses(moved)), addresses(moved)


def test_a_copy_leaves_the_original_alone(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(home, tmp_path / "copy")
    before = addresses(home)
    open_home(tmp_path / "copy")
    assert f"The home was at {home};" in capsys.readouterr().err
    open_home(tmp_path / "copy")
    assert capsys.readouterr().err == ""
    assert addresses(home) == before
    assert not any(str(home) in address for address in addresses(tmp_path / "copy"))


def test_the_variable_of_mlflow_may_name_the_moved_database(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.rename(tmp_path / "after")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/after/mlflow.db")
    client = connect(existing_tracking_uri(tmp_path / "no home"))
    assert client.get_experiment_by_name("wikigpt").artifact_location == f"file://{tmp_path}/after/mlartifacts"


def test_artifacts_that_a_person_put_elsewhere_stay_there(home: Path, tmp_path: Path) -> None:
    own = {"mine": str(tmp_path / "mine"), "bucket": "s3://bucket/mlartifacts"}
    client = MlflowClient(open_home(home).tracking_uri)
    for name, location in own.items():
        client.create_experiment(name, artifact_location=location)
    home.rename(tmp_path / "after")
    client = MlflowClient(open_home(tmp_path / "after").tracking_uri)
    assert {name: client.get_experiment_by_name(name).artifact_location for name in own} == own


@pytest.mark.slow
def test_a_moved_home_that_cannot_be_written_is_one_sentence(home: Path, tmp_path: Path) -> None:
    moved = tmp_path / "after"
    home.rename(moved)
    ended = wikigpt("models", "--home", moved, prefix=read_only(moved))
    assert (ended.code, ended.is_one_sentence) == (1, True), ended
    assert f"The home was moved here from {home}" in ended.err


def test_result_json_and_the_links_to_reports_follow(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    folder = home.new_run()
    (folder / "validation.html").write_text("report")
    result = Result(run=folder.name, log=str(folder / "log.txt"), reports={"validate": str(folder / "validation.html")})
    record = _to_record(result, home)
    assert str(tmp_path) not in json.dumps(record)
    earlier = {"reports": {"validate": f"/where/it/was/runs/{folder.name}/validation.html"}}
    for written in (record, earlier):
        (folder / "result.json").write_text(json.dumps(written))
        home.root.rename(tmp_path / "after")
        found = _reports_of({"pipeline_run": folder.name}, Home(tmp_path / "after"))
        assert found == {"validate": str(tmp_path / "after" / "runs" / folder.name / "validation.html")}
        assert Path(found["validate"]).read_text() == "report"
        (tmp_path / "after").rename(home.root)


@pytest.mark.slow
def test_a_real_home_is_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "deeper" / "after it"
    assert wikigpt("run", "--profile", TINY, "--home", before).code == 0
    after.parent.mkdir()
    before.rename(after)
    assert wikigpt("generate", "The castle", "--home", after).code == 0
    assert wikigpt("export", "champion", tmp_path / "out", "--home", after).code == 0
    again = wikigpt("run", "--json", "--profile", TINY, "--home", after)
    assert (again.code, json.loads(again.out)["decision"]) == (0, "skip"), again
    assert all(Path(report).is_file() for report in json.loads(again.out)["reports"].values())
    other = wikigpt("run", "--json", "--profile", TINY, "--home", after, "--set", "train.steps=8")
    assert (other.code, json.loads(other.out)["decision"]) == (0, "train"), other
    assert wikigpt("generate", "The castle", "--version", "2", "--home", after).code == 0
    assert not before.exists()
    texts = [path.read_text(errors="replace") for path in after.glob("runs/*/result.json")]
    assert not any(str(before) in text for text in texts)
    assert not any(str(before) in address for address in addresses(after))


def test_a_locked_database_is_waited_for_and_then_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.shared.tracking.mlflow_schema.BUSY", 0.1)
    home.rename(tmp_path / "after")
    with sqlite3.connect(tmp_path / "after" / "mlflow.db") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Failure, match="The database is locked by another process"):
            open_home(tmp_path / "after")
