"""The status of a run and its steps, from the answer of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.cluster.nodes import pods_below
from pipelines.steps import STEPS

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

OVER = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_UNSPECIFIED = (None, "RUNTIME_STATE_UNSPECIFIED")


@dataclass(frozen=True)
class StepStatus:
    """One step of a run.

    Attributes:
        name: the name of the step.
        state: succeeded, failed, cancelled, running, pending, skipped (there was nothing to train), omitted (an earlier
            step did not succeed), "not started", or "not finished" in a run that is over.
        seconds: its duration, so far if it still runs; None before it started.
        nodes: the IDs of its pods in the Argo workflow, the newest last.
        reason: why it waits or failed, if that is known.
    """

    name: str
    state: str
    seconds: float | None = None
    nodes: tuple[str, ...] = ()
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
        """Whether the run succeeded, failed or was cancelled."""
        return self.state in OVER

    @property
    def word(self) -> str:
        """The state as a word for messages."""
        return {"CANCELED": "cancelled", "CANCELING": "cancelling"}.get(self.state, self.state.lower())

    def step(self, name: str) -> StepStatus:
        """The step with this name."""
        return next(step for step in self.steps if step.name == name)


def get_status(cluster: Cluster, run_id: str) -> RunStatus:
    """Reads the status of a run from the server.

    Raises:
        Failure: there is no such run, or the server cannot be reached.
    """
    return parse_run(get_run(cluster, run_id))


def get_run(cluster: Cluster, run_id: str) -> Any:
    """Reads a run from the server.

    Raises:
        Failure: there is no such run, or the server cannot be reached.
    """
    return cluster.call_with_retry(f"run {run_id}", cluster.client.runs.run_service_get_run, run_id=run_id)


def parse_run(run: Any, now: datetime | None = None) -> RunStatus:
    """Converts the answer of the server to a status.

    Args:
        run: the answer.
        now: ends the duration of a running step.
    """
    now = now or datetime.now(UTC)
    details = (run.run_details.task_details if run.run_details else None) or []
    state = _state(run)
    return RunStatus(
        run_id=run.run_id,
        name=run.display_name,
        state=state,
        created=_moment(run.created_at),
        seconds=_seconds(run.created_at, run.finished_at if state in OVER else None, now),
        error=run.error.message if run.error else None,
        steps=tuple(_step(name, details, state, _cancelled_at(run), now) for name in STEPS),
    )


def _state(run: Any) -> str:
    """The state of a run. If it failed while it was being cancelled, it counts as cancelled."""
    return "CANCELED" if run.state == "FAILED" and _cancelled_at(run) else run.state or "PENDING"


def _cancelled_at(run: Any) -> datetime | None:
    """The time of the last request to cancel the run."""
    return max((entry.update_time for entry in run.state_history or () if entry.state == "CANCELING"), default=None)


def _step(
    name: str, details: Sequence[Any], run_state: str, cancelled_at: datetime | None, now: datetime
) -> StepStatus:
    node, driver = _node(details, name), _node(details, f"{name}-driver")
    over = run_state in OVER
    if node is None:
        if over:
            return StepStatus(name, "skipped" if run_state == "SUCCEEDED" else "omitted")
        started = driver is not None and driver.state not in _UNSPECIFIED
        return StepStatus(name, "pending" if started else "not started")
    if node.state in _UNSPECIFIED:
        return StepStatus(name, "omitted")
    return StepStatus(
        name=name,
        state=_word(node, details, run_state, cancelled_at),
        seconds=_seconds(node.start_time, node.end_time, now),
        nodes=tuple(pods_below(node, details)),
        reason=node.error.message if node.error else None,
    )


def _word(node: Any, details: Sequence[Any], run_state: str, cancelled_at: datetime | None) -> str:
    """The state of a step that has started."""
    ended = _moment(node.end_time)
    if run_state in OVER and not ended:
        return "cancelled" if run_state == "CANCELED" else "not finished"
    if node.state == "FAILED" and run_state == "CANCELED" and cancelled_at and ended and ended >= cancelled_at:
        return "cancelled"
    if node.state == "RUNNING" and any(_waits(detail, node.start_time) for detail in details):
        return "pending"
    return node.state.lower()


def _waits(detail: Any, since: datetime) -> bool:
    """Whether a node is a waiting pod of the step that started at this time: only one step runs at a time."""
    is_pod = (detail.display_name or "").startswith("executor(")
    return is_pod and detail.state == "PENDING" and not _moment(detail.end_time) and detail.start_time >= since


def _node(details: Sequence[Any], name: str) -> Any | None:
    """The node with this name. After a cancellation there may be two: the one that has an end time is the newer one."""
    found = [detail for detail in details if detail.display_name == name]
    return max(found, key=lambda node: _moment(node.end_time) is not None) if found else None


def _moment(value: datetime | None) -> datetime | None:
    """A time, or None for the start of 1970 or of the year 1, which the server sends for an unknown time."""
    return None if value is None or value.year <= 1970 else value


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    if (begun := _moment(start)) is None:
        return None
    return max(0.0, ((_moment(end) or now) - begun).total_seconds())
