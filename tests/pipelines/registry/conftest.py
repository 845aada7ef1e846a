"""Fixtures of the registry, and a registry with two real versions, which is created once."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.registry import register_two

NAME = "wikigpt-sample"


@pytest.fixture
def client(tracking_uri: str) -> MlflowClient:
    """An empty registry."""
    return MlflowClient(tracking_uri)


@pytest.fixture(scope="session")
def _filled(
    database_with_experiment: Path,
    hugging_face_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A home with version 1 as champion and version 2 as challenger; copied, never used."""
    root = tmp_path_factory.mktemp("filled")
    register_two(root, database_with_experiment, hugging_face_folder)
    return root


@pytest.fixture
def filled(_filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Version 1 is champion, version 2 challenger; changes stay in the test."""
    shutil.copyfile(_filled / "mlflow.db", tmp_path / "filled.db")
    uri = f"sqlite:///{tmp_path / 'filled.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    return MlflowClient(uri)
