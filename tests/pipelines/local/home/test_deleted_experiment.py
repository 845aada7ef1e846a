"""An experiment that was deleted in MLflow's user interface keeps its name: the run restores it and says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from components.shared.base.events import parse
from components.shared.tracking.run import Tracking
from pipelines.local.home import open_home


@pytest.fixture
def deleted(tmp_path: Path) -> str:
    """MLflow of a home, whose experiment has a run and was deleted."""
    uri = open_home(tmp_path / "home").tracking_uri
    Tracking.open("before", uri=uri)
    client = MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("wikigpt").experiment_id)
    return uri


def test_the_experiment_is_restored_with_its_runs(deleted: str, capsys: pytest.CaptureFixture[str]) -> None:
    Tracking.open("after", uri=deleted)
    client = MlflowClient(deleted)
    experiment = client.get_experiment_by_name("wikigpt")
    assert experiment.lifecycle_stage == LifecycleStage.ACTIVE
    assert {run.info.run_name for run in client.search_runs([experiment.experiment_id])} == {"before", "after"}
    (note,) = filter(None, map(parse, capsys.readouterr().out.splitlines()))
    assert "The experiment wikigpt was deleted in MLflow and is restored" in note["text"]
    assert "MLFLOW_EXPERIMENT_NAME" in note["text"]
    Tracking.open("third", uri=deleted)
    assert capsys.readouterr().out == ""


def test_another_name_is_a_way_out(deleted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    Tracking.open("after", uri=deleted)
    assert MlflowClient(deleted).get_experiment_by_name("wikigpt").lifecycle_stage == LifecycleStage.DELETED


def test_two_steps_that_restore_it_at_once(deleted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = MlflowClient.restore_experiment

    def after_another(self: MlflowClient, experiment: str) -> None:
        restore(self, experiment)
        restore(self, experiment)

    monkeypatch.setattr(MlflowClient, "restore_experiment", after_another)
    Tracking.open("after", uri=deleted)
    with pytest.raises(MlflowException):
        restore(MlflowClient(deleted), "1")
