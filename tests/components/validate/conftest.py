"""MLflow on SQLite and a store in the folder of the test."""

import pytest


@pytest.fixture
def step_environment(tracking_uri, tmp_path, monkeypatch):
    """The environment of a step; yields the address of the registry."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    return tracking_uri


def crown(client, model, dataset_digest):
    """Registers a version that was trained on a corpus, and makes it the champion of its model."""
    client.create_registered_model(model)
    tags = {"wikigpt.dataset_digest": dataset_digest} if dataset_digest else {}
    version = client.create_model_version(model, "file:///nowhere", tags=tags).version
    client.set_registered_model_alias(model, "champion", version)
