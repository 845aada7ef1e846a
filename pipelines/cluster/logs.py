"""Reads the log of a step from its pod, the server, or the copy that the launcher writes to object storage."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.nodes import pod_name, template_of
from pipelines.cluster.pods import Pods
from pipelines.cluster.runs import RunStatus, StepStatus
from pipelines.cluster.stored_logs import StoredLogs
from pipelines.cluster.versions import document_of

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

# This path is not in the published API, but exists since version 1. It returns the log of the pod, or Argo's archive.
_PATH = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"


def step_to_read(status: RunStatus, name: str | None) -> StepStatus:
    """The step of this name; by default the step that failed, the one that runs, or the last one that ran.

    Raises:
        Failure: the run has no such step, or the step did not start.
    """
    names = [step.name for step in status.steps]
    if name and name not in names:
        raise Failure(
            f"There is no step {name!r}",
            where=f"run {status.run_id}",
            remedy=f"the steps are {', '.join(names)}",
            exit_code=ExitCode.USAGE,
        )
    if name:
        chosen = [status.step(name)]
    else:
        ran = [step for step in status.steps if step.seconds is not None and step.name != "notify"]
        by_state = [[step for step in ran if step.state == state] for state in ("failed", "cancelled", "running")]
        chosen = next(filter(None, by_state), ran[-1:])
    if not chosen or chosen[0].seconds is None:
        raise Failure(
            f"{'Step ' + name if name else 'The run'} has no log: it did not start",
            where=f"run {status.run_id}",
            remedy=f"`wikigpt status {status.run_id}` shows what it waits for",
        )
    return chosen[0]


def read_log(cluster: Cluster, run: Any, step: StepStatus, pods: Pods) -> str:
    """Reads the log of a step.

    Args:
        cluster: the server.
        run: the answer of the server about the run.
        step: the step of the run.
        pods: the pods of the run.

    Raises:
        Failure: the log does not exist or cannot be accessed. The message says where it is.
    """
    if (text := pods.log(step.name)) is not None:
        return text
    document = document_of(cluster, run)
    if (text := _from_the_server(cluster, run.run_id, step, document)) is not None:
        return text
    stored = StoredLogs(run, step.name, document, pods)
    try:
        if (text := stored.newest()) is not None:
            return text
        why = "the launcher wrote no copy to object storage, as for a step that was killed"
    except Failure as failure:
        why = f"the copy in object storage cannot be read: {failure.what}"
    gone = pods.note or (
        "its pod no longer exists" if not pods.by_step.get(step.name) else "Kubernetes does not return it"
    )
    raise Failure(
        f"The log of step {step.name} cannot be read: {gone}, the server does not have it, and {why}",
        where=f"run {run.run_id}",
        remedy=stored.remedy,
    )


def error_of(text: str) -> str | None:
    """The error that the server sends, with status 200, instead of a log; None if the text is a log."""
    try:
        document = json.loads(text)
    except ValueError:
        return None
    is_error = isinstance(document, dict) and "error_message" in document
    return document["error_message"] if is_error and document.keys() <= {"error_message", "error_details"} else None


def _from_the_server(cluster: Cluster, run_id: str, step: StepStatus, document: dict[str, Any]) -> str | None:
    """The log of the newest pod that the server has; None if it has none."""
    if (template := template_of(step.name, document)) is None:
        return None
    for node in reversed(step.nodes):
        pod = pod_name(node, template)
        try:
            text = cluster.text(f"log of {pod}", _PATH, run_id=run_id, node_id=pod)
        except Failure as failure:
            if failure.exit_code is ExitCode.UNAUTHORISED:
                raise
        else:
            if error_of(text) is None:
                return text
    return None
