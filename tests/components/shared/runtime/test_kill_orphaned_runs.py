"""The next run ends the MLflow runs of dead runs, and never those of live ones."""

import subprocess
import sys
import time
from pathlib import Path

from mlflow import MlflowClient

from components.shared.runtime.kill_orphaned_runs import kill_orphaned_runs
from components.shared.runtime.liveness import STALE_AFTER, heartbeat
from components.shared.storage.store import Store, open_store
from components.shared.tracking.run import PIPELINE_RUN_TAG

DIE_WHILE_BEATING = """
import os, sys
from components.shared.runtime.liveness import heartbeat
from components.shared.storage.store import open_store
with heartbeat(open_store(sys.argv[1]), "killed"):
    os.kill(os.getpid(), 9)
"""


def start(client: MlflowClient, pipeline_run: str | None) -> str:
    experiment = client.get_experiment_by_name("wikigpt").experiment_id
    tags = {PIPELINE_RUN_TAG: pipeline_run} if pipeline_run else {}
    return client.create_run(experiment, tags=tags).info.run_id


def elsewhere(store: Store, pipeline_run: str, age: float) -> None:
    beat = {"host": "another/machine", "pid": 1, "process_started": "1", "beat": time.time() - age}
    store.put_record(f"heartbeats/{pipeline_run}", beat)


def test_only_dead_runs_of_this_project_are_marked_killed(tracking_uri: str, tmp_path: Path) -> None:
    client, store = MlflowClient(tracking_uri), open_store(str(tmp_path / "store"))
    subprocess.run([sys.executable, "-c", DIE_WHILE_BEATING, store.uri], cwd=Path(__file__).parents[4], check=False)
    elsewhere(store, "silent-elsewhere", STALE_AFTER + 60)
    elsewhere(store, "alive-elsewhere", STALE_AFTER - 60)
    names = ["killed", "silent-elsewhere", "alive-elsewhere", "alive-here", "beats-in-another-store", None]
    runs = {name: start(client, name) for name in names}
    experiment = client.get_experiment_by_name("wikigpt").experiment_id
    with heartbeat(store, "alive-here"):
        killed = kill_orphaned_runs(client, store, experiment, by="run-2")
        again = kill_orphaned_runs(client, store, experiment, by="run-3")

    assert set(killed) == {runs["killed"], runs["silent-elsewhere"]}
    assert again == []
    status = {name: client.get_run(run).info.status for name, run in runs.items()}
    assert {name for name, word in status.items() if word == "KILLED"} == {"killed", "silent-elsewhere"}
    assert {status[name] for name in names[2:]} == {"RUNNING"}
    assert client.get_run(runs["killed"]).data.tags["wikigpt.killed_by"] == "run-2"
