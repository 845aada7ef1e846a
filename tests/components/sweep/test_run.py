"""The rounds of a sweep on a real MLflow: trials below the run of the sweep, also after a death between two lines."""

import json

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from components.shared.runtime.liveness import alive, heartbeat, heartbeat_of
from components.shared.runtime.step import Step
from components.shared.tracking import registry
from components.shared.tracking.run import PIPELINE_RUN_TAG, Tracking
from components.sweep import run as library
from components.sweep.run import Sweep, advance
from components.sweep.space import parse_space
from components.sweep.trials import read_trials

SWEEP = Sweep(parse_space(["train.learning_rate=[0.1, 0.2, 0.3]"]), "grid", trials=3, at_once=2, seed=0)


@pytest.fixture
def tracking(tmp_path, monkeypatch, empty_database):
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_database.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    return Tracking.open("sweep-1")


def finish(store, pipeline_run: str, word_perplexity: float) -> None:
    """Does what the steps of a trial do: they find its run by their id, and record the result."""
    with heartbeat(store, pipeline_run):
        metrics = {registry.VALIDATION_WORD_PERPLEXITY: word_perplexity, "train_seconds": 2.0, "parameters": 9}
        Tracking.open(pipeline_run).metrics(metrics)


def test_a_sweep_from_its_first_round_to_its_table(tracking, store):
    first = advance(tracking, store, SWEEP, "sweep-1", 0)
    assert [trial.values for trial in first] == [{"train.learning_rate": 0.1}, {"train.learning_rate": 0.2}]
    finish(store, first[0].pipeline_run, 200.0)  # the other one has no result
    (last,) = advance(tracking, store, SWEEP, "sweep-1", 1)
    assert (last.number, last.values) == (3, {"train.learning_rate": 0.3})
    finish(store, last.pipeline_run, 150.0)
    assert advance(tracking, store, SWEEP, "sweep-1", 2) == []

    runs = {run.data.tags[PIPELINE_RUN_TAG]: run for run in tracking.client.search_runs(["1"])}
    parent = runs.pop("sweep-1")
    assert {name: run.info.status for name, run in runs.items()} == {
        "sweep-1.trial-1": "FINISHED",
        "sweep-1.trial-2": "FAILED",
        "sweep-1.trial-3": "FINISHED",
    }
    assert {run.data.tags[MLFLOW_PARENT_RUN_ID] for run in runs.values()} == {parent.info.run_id}
    assert not any(alive(heartbeat_of(store, name)) for name in runs)
    assert parent.data.metrics["best_validation_word_perplexity"] == 150.0
    assert parent.data.tags["wikigpt.best_settings"] == "train.learning_rate=0.3"
    path = tracking.client.download_artifacts(tracking.run_id, library.TABLE)
    with open(path, encoding="utf-8") as stream:
        assert stream.read() == (
            "| trial | train.learning_rate | validation word perplexity | seconds | parameters |\n"
            "| --- | --- | --- | --- | --- |\n"
            "| 3 | 0.3 | 150.00 | 2 | 9 |\n"
            "| 1 | 0.1 | 200.00 | 2 | 9 |\n"
            "| 2 | 0.2 | none |  |  |\n"
        )


def test_a_round_that_is_repeated_has_the_same_trials(tracking, store):
    """The pod of the step may be deleted and started again."""
    before = advance(tracking, store, SWEEP, "sweep-1", 0)
    finish(store, before[0].pipeline_run, 200.0)
    assert [trial.run_id for trial in advance(tracking, store, SWEEP, "sweep-1", 0)] == [t.run_id for t in before]
    assert len(read_trials(tracking)) == 2


def test_the_step_gives_each_trial_as_text_and_ends_the_run_of_the_sweep(tracking, store, monkeypatch):
    monkeypatch.setenv("WIKIGPT_STORE", store.uri)
    step = Step("sweep", "sweep-1", {})
    texts = library.run(step, SWEEP, 0)
    assert [json.loads(text) for text in texts] == [
        {"run": f"sweep-1.trial-{number}", "overrides": [f"train.learning_rate={value}"]}
        for number, value in ((1, 0.1), (2, 0.2))
    ]
    assert tracking.client.get_run(tracking.run_id).info.status == "RUNNING"
    assert library.run(step, SWEEP, 2) == []
    assert tracking.client.get_run(tracking.run_id).info.status == "FINISHED"
