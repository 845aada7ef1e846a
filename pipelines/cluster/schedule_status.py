"""The status of the schedules: when each is due, how its last run ended, and whether a scheduled run is overdue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pipelines.cluster.cron import Cron, parse
from pipelines.cluster.recurring import content, recurring_runs
from pipelines.cluster.runs import OVER

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

GRACE = timedelta(minutes=15)
_SLACK = timedelta(minutes=1)


@dataclass(frozen=True)
class ScheduleStatus:
    """A schedule on the server.

    Attributes:
        name: the name of the schedule.
        cron: the cron expression.
        profile: the profile of its runs.
        paused: whether it is paused.
        next_times: the next three times; none while it is paused.
        last_run: the ID of its last run, or None.
        last_state: the state of that run.
        last_time: the creation time of that run.
        overdue: a message if a run is overdue, otherwise None.
        outdated: a message if it was created for another version of the server, otherwise None.
    """

    name: str
    cron: Cron
    profile: str
    paused: bool
    next_times: list[datetime]
    last_run: str | None
    last_state: str | None
    last_time: datetime | None
    overdue: str | None
    outdated: str | None


def schedule_statuses(cluster: Cluster, now: datetime | None = None) -> list[ScheduleStatus]:
    """Returns the status of every schedule that wikigpt applied, sorted by name.

    Raises:
        Failure: the server cannot be reached.
    """
    now = now or datetime.now(UTC)
    schedules = recurring_runs(cluster)
    last = _last_runs(cluster, schedules)
    return sorted(
        (_status_of(run, last.get(run.recurring_run_id), cluster.version, now) for run in schedules),
        key=lambda schedule: schedule.name,
    )


def overdue(cron: Cron, since: datetime, last: datetime | None, now: datetime) -> datetime | None:
    """Returns the time of a scheduled run that did not start, or None.

    Args:
        cron: the cron expression.
        since: the creation time of the schedule.
        last: the creation time of its last run, or None.
        now: the current time; a run may start `GRACE` late.
    """
    due = cron.last_time(now - GRACE)
    if due <= since or (last is not None and last >= due - _SLACK):
        return None
    return due


def _status_of(schedule: Any, run: Any | None, server: str, now: datetime) -> ScheduleStatus:
    about, paused = content(schedule), schedule.status == "DISABLED"
    cron = parse(schedule.trigger.cron_schedule.cron, about["time_zone"], where=f"schedule {schedule.display_name}")
    created = run.created_at if run else None
    due = None if paused else overdue(cron, schedule.created_at, created, now)
    return ScheduleStatus(
        name=schedule.display_name,
        cron=cron,
        profile=about["profile"],
        paused=paused,
        next_times=[] if paused else cron.next_times(now),
        last_run=run.run_id if run else None,
        last_state=run.state if run else None,
        last_time=created,
        overdue=_in_words(due, run) if due else None,
        outdated=_made_by(about["server"], server),
    )


def _made_by(made: str | None, server: str) -> str | None:
    if not server or made == server:
        return None
    before = f"Kubeflow Pipelines {made}" if made else "an earlier version of `wikigpt`"
    return f"created for {before}, whose launcher it keeps, but the server is {server}: apply it again"


def _in_words(due: datetime, run: Any | None) -> str:
    words = f"no run started at {due:%Y-%m-%d %H:%M %Z}"
    if run is not None and run.state not in OVER:
        return f"{words}, since the previous run is still in progress: {run.run_id}"
    return f"{words}; see the log of ml-pipeline-scheduledworkflow"


def _last_runs(cluster: Cluster, schedules: list[Any]) -> dict[str, Any]:
    """The newest run of each schedule, by the ID of its recurring run."""
    wanted = {schedule.recurring_run_id for schedule in schedules}
    found: dict[str, Any] = {}
    if not wanted:
        return found
    oldest = min(schedule.created_at for schedule in schedules)
    runs = cluster.paginate(
        "runs",
        cluster.client.runs.run_service_list_runs,
        "runs",
        experiment_id=schedules[0].experiment_id,
        sort_by="created_at desc",
    )
    for run in runs:
        if len(found) == len(wanted) or run.created_at < oldest:
            break
        if run.recurring_run_id in wanted:
            found.setdefault(run.recurring_run_id, run)
    return found
