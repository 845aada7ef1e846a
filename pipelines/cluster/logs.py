"""What a step printed, as long as anybody still has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.failure import ExitCode, Failure
from pipelines.cluster.pods import Pods
from pipelines.cluster.runs import RunStatus, StepStatus

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

# Outside the published API, and there since version 1: reads the pod's log, or Argo's archive of it where that is kept.
_PATH = "/apis/v1alpha1/runs/{run_id}/nodes/{node_id}/log"


def step_to_read(status: RunStatus, name: str | None) -> StepStatus:
    """The step of a name; without one, the step that failed, else the one that runs, else the last that ran.

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
        by_state = {state: [step for step in status.steps if step.state == state] for state in ("failed", "running")}
        ran = [step for step in status.steps if step.seconds is not None and step.name != "notify"]
        chosen = by_state["failed"] or by_state["running"] or ran[-1:]
    if not chosen or chosen[0].seconds is None:
        raise Failure(
            f"{'Step ' + name if name else 'The run'} has printed nothing: it did not start",
            where=f"run {status.run_id}",
            remedy=f"see `wikigpt status {status.run_id}` for what it waits for",
        )
    return chosen[0]


def read_log(cluster: Cluster, status: RunStatus, step: StepStatus, pods: Pods) -> str:
    """What a step printed, from its pod or from the archive of the server.

    Raises:
        Failure: it is gone with the pod.
    """
    if (text := pods.log(step.name)) is not None:
        return text
    for pod in step.pods:
        try:
            return cluster.text(f"log of {pod}", _PATH, run_id=status.run_id, node_id=pod)
        except Failure as failure:
            if failure.exit_code is ExitCode.UNAUTHORISED:
                raise
    what = f"The log of step {step.name} is gone with its pod"
    raise Failure(
        f"The server does not have the log of step {step.name}, and {pods.note}" if pods.note else what,
        where=f"run {status.run_id}",
        remedy="see the run's record in MLflow: its metrics, its two reports and how it ended; logs outlive their pods"
        " where Argo archives them",
    )
