"""Fixtures of the registry, and a registry with two real versions, which is created once."""

import os
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.registry import another_model, copy_registry, make_folders, make_step, register

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
    before = dict(os.environ)
    uri = copy_registry(database_with_experiment, root)
    os.environ.update(MLFLOW_TRACKING_URI=uri, WIKIGPT_STORE=str(root / "store"), WIKIGPT_COMMIT="c0ffee")
    try:
        first = make_folders(root / "a", hugging_face_folder, reuse_key="1" * 32, nll_per_word=5.0)
        register(make_step("run-1"), first)
        register(make_step("run-2"), another_model(first, root / "b", "2" * 32, 6.0))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return root


@pytest.fixture
def filled(_filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """Version 1 is champion, version 2 challenger; changes stay in the test."""
    shutil.copyfile(_filled / "mlflow.db", tmp_path / "filled.db")
    uri = f"sqlite:///{tmp_path / 'filled.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    return MlflowClient(uri)
