"""A cancelled run is closed from the laptop, because Kubeflow Pipelines does not start its exit handler."""

import pytest

from components.shared.reuse.training_lock import training_lock
from components.shared.runtime.liveness import alive, heartbeat, heartbeat_of
from components.shared.runtime.run_record import record_start
from components.shared.runtime.step import Step
from components.shared.storage.store import open_store
from pipelines.cluster.cancellation import close_run

RUN = "4e928f31-a2c6-4619-a369-7435c5f19ef7"


@pytest.fixture
def cancelled(tmp_path, tracking_uri, monkeypatch):
    """A run that was killed in its training, on another machine."""
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    step = Step("train", RUN, {})
    step.tracking.tags({"wikigpt.decision": "train"})
    with pytest.raises(KeyboardInterrupt), heartbeat(step.store, RUN):
        record_start(step.store, RUN, "train")
        raise KeyboardInterrupt
    training_lock(step.store, "f").acquire(RUN)
    record = {**heartbeat_of(step.store, RUN), "host": "pod/boot/pid:[1]"}
    step.store.put_record(f"heartbeats/{RUN}", record)
    return step


def test_the_same_run_can_be_started_again_at_once(cancelled):
    assert alive(heartbeat_of(cancelled.store, RUN))
    assert close_run(RUN) is None
    assert training_lock(cancelled.store, "f").acquire("the next run").before == RUN


def test_its_mlflow_run_is_killed_in_the_step_that_it_was_in(cancelled, capsys):
    close_run(RUN)
    seen = cancelled.tracking.client.get_run(cancelled.tracking.run_id)
    assert seen.info.status == "KILLED"
    assert seen.data.tags["wikigpt.ending"] == "interrupted"
    assert "interrupted in train" in seen.data.tags["wikigpt.notice"]
    assert capsys.readouterr().out == ""


def test_what_cannot_be_reached_is_named(cancelled, monkeypatch):
    monkeypatch.delenv("WIKIGPT_STORE")
    assert "stay open: WIKIGPT_STORE is not set here." in close_run(RUN)
    monkeypatch.setenv("WIKIGPT_STORE", str(open_store(cancelled.store.uri).uri))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("components.shared.tracking.run.PATIENCE", 0.1)
    assert "MLflow does not answer" in close_run(RUN)
    assert alive(heartbeat_of(cancelled.store, RUN))
