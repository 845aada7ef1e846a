"""What the server knows of a run, in the words of our steps."""

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
        name: of the step.
        state: succeeded, failed, cancelled, running, pending, skipped (there was nothing to train), omitted (a step
            before it did not succeed), "not started", or "not finished" in a run that has ended.
        seconds: that it took, or takes so far; None before it started.
        nodes: identities of its pods in the Argo workflow, the newest last.
        reason: why it waits or failed, where that is known.
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
        """Whether the run has ended, in whatever way."""
        return self.state in OVER

    @property
    def word(self) -> str:
        """The state as a person reads it."""
        return {"CANCELED": "cancelled", "CANCELING": "cancelling"}.get(self.state, self.state.lower())

    def step(self, name: str) -> StepStatus:
        """The step of a name."""
        return next(step for step in self.steps if step.name == name)


def get_status(cluster: Cluster, run_id: str) -> RunStatus:
    """Asks the server for a run.

    Raises:
        Failure: there is no such run, or the server cannot be asked.
    """
    return parse_run(get_run(cluster, run_id))


def get_run(cluster: Cluster, run_id: str) -> Any:
    """The server's answer about a run.

    Raises:
        Failure: there is no such run, or the server cannot be asked.
    """
    return cluster.call_with_retry(f"run {run_id}", cluster.client.runs.run_service_get_run, run_id=run_id)


def parse_run(run: Any, now: datetime | None = None) -> RunStatus:
    """Reads the server's answer.

    Args:
        run: as the client gives it.
        now: for the time that a running step has taken so far.
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
    """The state of a run; one that failed while it was being cancelled was cancelled."""
    return "CANCELED" if run.state == "FAILED" and _cancelled_at(run) else run.state or "PENDING"


def _cancelled_at(run: Any) -> datetime | None:
    """When somebody asked for the end of the run, the last time."""
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
    """The state of a step that has begun."""
    ended = _moment(node.end_time)
    if run_state in OVER and not ended:
        return "cancelled" if run_state == "CANCELED" else "not finished"
    if node.state == "FAILED" and run_state == "CANCELED" and cancelled_at and ended and ended >= cancelled_at:
        return "cancelled"
    if node.state == "RUNNING" and any(_waits(detail, node.start_time) for detail in details):
        return "pending"
    return node.state.lower()


def _waits(detail: Any, since: datetime) -> bool:
    """Whether a node is a pod that waits, of a step that began then: one step runs at a time."""
    is_pod = (detail.display_name or "").startswith("executor(")
    return is_pod and detail.state == "PENDING" and not _moment(detail.end_time) and detail.start_time >= since


def _node(details: Sequence[Any], name: str) -> Any | None:
    """The node of a name. Of two reports on it (seen after a cancel) the one that knows its end is the newer."""
    found = [detail for detail in details if detail.display_name == name]
    return max(found, key=lambda node: _moment(node.end_time) is not None) if found else None


def _moment(value: datetime | None) -> datetime | None:
    """A time that has come: for one that has not, the server writes the beginning of 1970 or of the year 1."""
    return None if value is None or value.year <= 1970 else value


def _seconds(start: datetime | None, end: datetime | None, now: datetime) -> float | None:
    if (begun := _moment(start)) is None:
        return None
    return max(0.0, ((_moment(end) or now) - begun).total_seconds())
