"""Runs and schedules as the lines that a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pipelines.cluster.cron import Cron
from pipelines.cluster.runs import RunStatus
from pipelines.cluster.schedule_status import Standing


def duration(seconds: float | None) -> str:
    """As in `45 s`, `7 min 5 s`, `3 h 12 min`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def status_lines(status: RunStatus, note: str | None) -> Iterator[str]:
    """A run and its steps, one a line.

    Args:
        status: of the run.
        note: of the pods, or None.
    """
    yield f"{status.name}  {status.word}  {duration(status.seconds)}".rstrip()
    if status.error:
        yield f"  {status.error}"
    for step in status.steps:
        yield f"  {step.name:<9} {step.state:<12} {duration(step.seconds):<11} {step.reason or ''}".rstrip()
        if step.state == "failed" and not step.reason:
            yield f"    see `wikigpt logs {status.run_id} {step.name}` for why it failed"
    if note and not status.over:
        yield f"  {note}; `kubectl get pods -l pipeline/runid={status.run_id}` shows the pods of the run"


def cron_line(cron: Cron, times: list[datetime]) -> str:
    """When a schedule is due, in words and with its next times."""
    following = ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in times)
    return f"{cron.words} ({cron.time_zone}){f', next {following}' if following else ''}"


def standing_lines(standing: Standing) -> Iterator[str]:
    """A schedule on the server."""
    yield f"{standing.name}  profile {standing.profile}{'  PAUSED' if standing.paused else ''}"
    yield f"  {cron_line(standing.cron, standing.next_times)}"
    if standing.last_run and standing.last_state and standing.last_time:
        yield f"  last run {standing.last_time:%Y-%m-%d %H:%M}, {standing.last_state.lower()}: {standing.last_run}"
    if standing.overdue:
        yield f"  OVERDUE: {standing.overdue}"
    if standing.outdated:
        yield f"  {standing.outdated}"
