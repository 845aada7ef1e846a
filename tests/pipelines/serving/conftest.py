"""Fixtures of the registry that these cases use too, and what a server on this machine needs."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from components.shared.tracking import registry
from pipelines.serving.engine import EngineCommand
from tests.pipelines.registry.conftest import _filled, client, filled  # noqa: F401

NAME = "wikigpt-sample"
STAND_IN = Path(__file__).with_name("stand_in_engine.py")


@pytest.fixture
def stand_in() -> EngineCommand:
    """The command of the engine that starts at once."""
    return EngineCommand(f"{sys.executable} {STAND_IN} {{model}} {{port}}")


@pytest.fixture
def haproxy() -> str:
    found = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if found is None:
        pytest.skip("no HAProxy here: install Debian's package haproxy")
    return found


@pytest.fixture
def local(filled: MlflowClient, tmp_path: Path) -> MlflowClient:  # noqa: F811
    """The registry, with the files of its versions in the folder of the test, and the completions of the stand-in."""
    for number in ("1", "2"):
        version = filled.get_model_version(NAME, number)
        source = Path(filled.get_logged_model(version.source.removeprefix("models:/")).artifact_location)
        copy = tmp_path / f"logged-{number}"
        shutil.copytree(source, copy)
        record(copy, " after")
        move_files(filled, number, copy)
    return filled


def move_files(registered: MlflowClient, number: str, folder: Path) -> None:
    """Points a version to a copy of its files."""
    path = registered.tracking_uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE model_versions SET storage_location = ? WHERE version = ?", (str(folder), number))


def record(folder: Path, beginning: str) -> None:
    """Records completions as the stand-in makes them, or others."""
    made = [{"prompt": "The castle", "text": f"{beginning} The castle"}]
    (folder / registry.COMPLETIONS).write_text(json.dumps({"max_tokens": 4, "completions": made}))
