"""What the server knows of a run, in the words of our steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.steps import STEPS

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")


@dataclass(frozen=True)
class StepStatus:
    """One step of a run.

    Attributes:
        name: of the step.
        state: succeeded, failed, running, pending, skipped, canceled, "not started".
        seconds: that it took, or takes so far; None before it started.
        pods: names of its pods as far as the server says them, the newest last.
        reason: why it waits or failed, where that is known.
    """

    name: str
    state: str
    seconds: float | None = None
    pods: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class RunStatus:
    """A run and its steps, in the order of the DAG."""

    run_id: str
    name: str
    state: str
    created: datetime | None
    seconds: float | None
    error: str | None
    steps: tuple[StepStatus, ...]

    @property
    def over(self) -> bool:
        """Whether the run has ended, in whatever way."""
        return self.state in OVER

    def step(self, name: str) -> StepStatus:
        """The step of a name."""
        return next(step for step in self.steps if step.name == name)


def fetch(cluster: Cluster, run_id: str) -> RunStatus:
    """Asks the server for a run.

    Raises:
        Failure: there is no such run, or the server cannot be asked.
    """
    run = ask(cluster, run_id)
    return describe(run, titles_of(cluster, run))


def ask(cluster: Cluster, run_id: str) -> Any:
    """The server's answer about a run.

    Raises:
        Failure: there is no such run, or the server cannot be asked.
    """
    return cluster.read(f"run {run_id}", cluster.client.runs.run_service_get_run, run_id=run_id)


def titles_of(cluster: Cluster, run: Any) -> dict[str, str]:
    """Step by the title that the DAG gives it, from the pipeline that the run runs."""
    from pipelines.cluster.errors import Missing

    spec, reference = run.pipeline_spec or {}, run.pipeline_version_reference
    if reference:
        with suppress(Missing):  # a version that was deleted since
            version = cluster.read(
                f"version {reference.pipeline_version_id}",
                cluster.client.pipelines.pipeline_service_get_pipeline_version,
                pipeline_id=reference.pipeline_id,
                pipeline_version_id=reference.pipeline_version_id,
            )
            spec = version.pipeline_spec or {}
    spec = spec.get("pipeline_spec", spec)
    components: Iterable[dict[str, Any]] = [spec.get("root", {}), *spec.get("components", {}).values()]
    tasks = [task for component in components for task in component.get("dag", {}).get("tasks", {}).items()]
    return {_plain(task["taskInfo"]["name"]): key for key, task in tasks if key in STEPS}


def describe(run: Any, titles: dict[str, str], now: datetime | None = None) -> RunStatus:
    """Reads the server's answer.

    The server lists the nodes of the Argo workflow: `train-driver`, `train`, and the pods below it, all called
    `executor`. The node of a step has the step's name or its title.

    Args:
        run: as the client gives it.
        titles: step by title.
        now: for the time that a running step has taken so far.
    """
    now = now or datetime.now(UTC)
    details = (run.run_details.task_details if run.run_details else None) or []
    nodes = {titles.get(_plain(node.display_name), _plain(node.display_name)): node for node in details}
    state = _state(run)
    ended = state in OVER
    steps = tuple(_step(name, nodes, state, now) for name in STEPS)
    return RunStatus(
        run_id=run.run_id,
        name=run.display_name,
        state=state,
        created=_moment(run.created_at),
        seconds=_seconds(run.created_at, run.finished_at if ended else None, now),
        error=run.error.message if run.error else None,
        steps=steps,
    )


def _state(run: Any) -> str:
    """The state of a run; one that failed while it was being cancelled was cancelled."""
    passed = {status.state for status in run.state_history or ()}
    return "CANCELED" if run.state == "FAILED" and "CANCELING" in passed else run.state or "PENDING"


def _step(name: str, nodes: dict[str, Any], run_state: str, now: datetime) -> StepStatus:
    node = nodes.get(name)
    if node is None:
        waiting = "skipped" if run_state == "SUCCEEDED" else "not started"
        return StepStatus(name, "pending" if f"{name}-driver" in nodes and run_state not in OVER else waiting)
    state = (node.state or "PENDING").lower()
    return StepStatus(
        name=name,
        state="skipped" if state == "runtime_state_unspecified" else state,
        seconds=_seconds(node.start_time, node.end_time, now),
        pods=tuple(dict.fromkeys(_pods(node))),
        reason=node.error.message if node.error else None,
    )


def _pods(node: Any) -> Iterator[str]:
    """Names that the pods of a step may have.

    Kubeflow Pipelines 2.17 leaves `pod_name` empty (kubeflow/pipelines#14007) and lists the children by the identity
    of their Argo node, `<workflow>-<hash>`; the pod is called `<workflow>-<template>-<hash>`.
    """
    for child in node.child_tasks or ():
        if child.pod_name:
            workflow, _, suffix = child.pod_name.rpartition("-")
            yield f"{workflow}-system-container-impl-{suffix}"
            yield child.pod_name
    if node.pod_name:
        yield node.pod_name


def _plain(name: str | None) -> str:
    return "-".join((name or "").lower().replace("_", " ").replace("-", " ").split())


def _moment(value: datetime | None) -> datetime | None:
    """The server writes the beginning of 1970 for a time that has not come."""
    return None if value is None or value.year <= 1970 else value


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    if (begun := _moment(start)) is None:
        return None
    return max(0.0, ((_moment(end) or now) - begun).total_seconds())
