"""Inspects a run: its steps, what their pods wait for, and why a step failed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.failures import failure_in
from pipelines.cluster.logs import read_log
from pipelines.cluster.pods import Pods, explain, is_exit_code_only, list_pods
from pipelines.cluster.runs import RunStatus, StepStatus, get_run, parse_run

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster


def inspect(cluster: Cluster, run_id: str) -> tuple[RunStatus, str | None]:
    """The status of a run with the reasons of its steps, and a note about the pods.

    A reason comes from Kubernetes if it is accessible, otherwise from the failure in the log of the step.

    Raises:
        Failure: there is no such run, or the server cannot be reached.
    """
    run = get_run(cluster, run_id)
    pods = list_pods(cluster.access, run_id)
    status = explain(parse_run(run), pods)
    steps = tuple(_with_failure(cluster, run, step, pods) for step in status.steps)
    return replace(status, steps=steps), pods.note


def _with_failure(cluster: Cluster, run: Any, step: StepStatus, pods: Pods) -> StepStatus:
    if step.state != "failed" or not is_exit_code_only(step.reason):
        return step
    try:
        said = failure_in(read_log(cluster, run, step, pods))
    except Failure as failure:
        if failure.exit_code is ExitCode.UNAUTHORISED:
            raise
        said = None
    return replace(step, reason=said or step.reason)
