"""Ends the MLflow runs of pipeline runs that died: a killed process leaves its MLflow run RUNNING forever.

The module is not in `tracking` because it needs the heartbeat of a run as well as its MLflow run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.runtime.liveness import alive, heartbeat_of
from components.shared.storage.store import Store
from components.shared.tracking.run import PIPELINE_RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient

KILLED_BY_TAG = "wikigpt.killed_by"


def kill_orphaned_runs(client: MlflowClient, store: Store, experiment: str, *, by: str) -> list[str]:
    """Marks as KILLED the runs of an experiment that are RUNNING and whose pipeline run is dead.

    A run of another project, or one without a heartbeat in this store (it may be in another store), is left alone.

    Args:
        client: the MLflow client.
        store: the store with the heartbeats.
        experiment: the id of the experiment.
        by: the pipeline run that calls this function; it is recorded as a tag.

    Returns:
        The ids of the MLflow runs that were ended.
    """
    killed, token = [], None
    while True:
        page = client.search_runs([experiment], "attributes.status = 'RUNNING'", page_token=token)
        for run in page:
            pipeline_run = run.data.tags.get(PIPELINE_RUN_TAG)
            if pipeline_run is None or (beat := heartbeat_of(store, pipeline_run)) is None or alive(beat):
                continue
            client.set_tag(run.info.run_id, KILLED_BY_TAG, by)
            client.set_terminated(run.info.run_id, "KILLED", end_time=int(beat["beat"] * 1000))
            killed.append(run.info.run_id)
        if not (token := page.token):
            return killed
