"""Formats runs and schedules as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from pipelines.cluster.cron import Cron
from pipelines.cluster.runs import RunStatus
from pipelines.cluster.schedule_status import ScheduleStatus


def duration(seconds: float | None) -> str:
    """Formats a duration as `45 s`, `7 min 5 s` or `3 h 12 min`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def status_lines(status: RunStatus, note: str | None) -> Iterator[str]:
    """Formats a run and its steps, one per line.

    Args:
        status: the status of the run.
        note: a note about the pods, or None.
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
    """Formats a cron expression in words, with its next times."""
    following = ", ".join(f"{time:%Y-%m-%d %H:%M}" for time in times)
    return f"{cron.words} ({cron.time_zone}){f', next {following}' if following else ''}"


def schedule_lines(status: ScheduleStatus) -> Iterator[str]:
    """Formats a schedule on the server."""
    yield f"{status.name}  profile {status.profile}{'  PAUSED' if status.paused else ''}"
    yield f"  {cron_line(status.cron, status.next_times)}"
    if status.last_run and status.last_state and status.last_time:
        yield f"  last run {status.last_time:%Y-%m-%d %H:%M}, {status.last_state.lower()}: {status.last_run}"
    if status.overdue:
        yield f"  OVERDUE: {status.overdue}"
    if status.outdated:
        yield f"  {status.outdated}"
