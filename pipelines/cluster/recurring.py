"""Schedules on the server, which calls them recurring runs.

A recurring run cannot be changed, and a second one of the same name would run in addition to the first. So each has the
digest of its content in its description: an unchanged one is left alone, and a changed one is replaced, where the new
one is enabled before the old one is deleted. The version of the server is part of the content: a recurring run keeps
the launcher and driver images of the day on which it was created, also after an upgrade (kubeflow/pipelines#13933).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import digest_of
from pipelines.cluster.namespaces import require_namespace
from pipelines.cluster.schedules import Schedule
from pipelines.cluster.submission import EXPERIMENT, Package, find_sent, new_name, send, start
from pipelines.cluster.versions import Version, create_pipeline, equals, experiment_id, find_experiment, find_pipeline
from pipelines.planned_changes import Change
from pipelines.steps import NAME

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

_CONTENT = re.compile(
    r"\((?P<time_zone>\S+)\)\. Profile (?P<profile>\S+)\."
    r" Applied by wikigpt( to Kubeflow Pipelines (?P<server>[^,]+))?, content (?P<digest>\w+)\."
)


Action = Literal["created", "replaced", "unchanged"]


@dataclass(frozen=True)
class SchedulePlan:
    """What applying a schedule changes on the server.

    Attributes:
        name: the name of the schedule.
        changes: the planned changes, in order.
        action: the effect on the schedule.
        paused: whether it stays paused, because a user has paused it.
        retired: the number of recurring runs that are deleted.
    """

    name: str
    changes: list[Change]
    action: Action
    paused: bool
    retired: int


def plan_schedules(cluster: Cluster, wanted: Iterable[tuple[Schedule, Package]]) -> list[SchedulePlan]:
    """Lists the changes after which the server does what the schedules say, and changes nothing.

    The changes of one schedule depend on those of the schedules before it. If a change fails, the old schedule stays in
    place: the new one is created before the old one is deleted.

    Args:
        cluster: the server.
        wanted: schedules with the packages that their runs start.

    Raises:
        Failure: the namespace does not exist, the server cannot be reached, or it refuses.
    """
    planned: set[str] = set()
    return [_plan(cluster, schedule, package, planned) for schedule, package in wanted]


def _plan(cluster: Cluster, schedule: Schedule, package: Package, planned: set[str]) -> SchedulePlan:
    """Plans one schedule.

    Args:
        cluster, schedule, package: see `plan_schedules`.
        planned: descriptions of the changes that earlier schedules share with this one; it is extended.
    """
    version_name, version = find_sent(cluster, package, NAME)
    shared: list[Change] = []
    if version is None:
        if find_pipeline(cluster, NAME) is None:
            shared.append(Change(f"create pipeline {NAME}", partial(create_pipeline, cluster, NAME)))
        upload = partial(send, cluster, package, NAME)
        shared.append(Change(f"upload pipeline version {version_name} of {NAME}", upload))
    if find_experiment(cluster, EXPERIMENT) is None:
        shared.append(Change(f"create experiment {EXPERIMENT}", partial(experiment_id, cluster, EXPERIMENT)))
    changes = [change for change in shared if change.description not in planned]
    planned.update(change.description for change in shared)

    digest = _digest(schedule, package, version_name, cluster.version)
    before = recurring_runs(cluster, schedule.name)
    kept = next((run for run in before if content(run)["digest"] == digest), None)
    paused = bool(before) and all(run.status == "DISABLED" for run in before)
    if kept is None:
        when = f"{schedule.cron.words} ({schedule.cron.time_zone}), profile {package.profile}"
        create = partial(_create, cluster, schedule, package, digest, paused=paused)
        state = "paused recurring run" if paused else "recurring run"
        changes.append(Change(f"create {state} {schedule.name}: {when}, content {digest}", create))
    elif kept.status == "DISABLED" and not paused:
        enable = partial(_switch, cluster, kept, on=True)
        changes.append(Change(f"enable recurring run {schedule.name}, {kept.recurring_run_id}", enable))
    others = [run for run in before if run is not kept]
    changes += [
        Change(f"delete recurring run {schedule.name}, {run.recurring_run_id}", partial(retire, cluster, run))
        for run in others
    ]
    action: Action = "unchanged" if kept else "replaced" if before else "created"
    return SchedulePlan(schedule.name, changes, action, paused, len(others))


def recurring_runs(cluster: Cluster, name: str | None = None) -> list[Any]:
    """The recurring runs that wikigpt applied, the newest first, of one name or of all.

    A recurring run that a user created by hand is never one of them, even with the same name.
    """
    if (experiment := find_experiment(cluster, EXPERIMENT)) is None:
        return []
    filters = {"filter": equals("display_name", name)} if name else {}
    listed = cluster.paginate(
        "schedules",
        cluster.client.recurring_runs.recurring_run_service_list_recurring_runs,
        "recurring_runs",
        experiment_id=experiment.experiment_id,
        **filters,
    )
    ours = [run for run in listed if _CONTENT.search(run.description or "")]
    return sorted(ours, key=lambda run: run.created_at, reverse=True)


def content(run: Any) -> dict[str, str]:
    """Parses the description of a recurring run: time_zone, profile, server, digest."""
    match = _CONTENT.search(run.description)
    assert match is not None
    return match.groupdict()


def named(cluster: Cluster, name: str) -> list[Any]:
    """The recurring runs of a schedule, the newest first.

    Raises:
        Failure: there is none.
    """
    if found := recurring_runs(cluster, name):
        return found
    known = sorted({run.display_name for run in recurring_runs(cluster)})
    raise Failure(
        f"There is no schedule {name!r} on the server",
        where=cluster.address,
        remedy=f"the schedules are {', '.join(known)}" if known else "apply one by `wikigpt schedule apply`",
        exit_code=ExitCode.USAGE,
    )


def pause(cluster: Cluster, name: str) -> None:
    """Stops a schedule from starting runs. A run in progress continues."""
    for run in named(cluster, name):
        _switch(cluster, run, on=False)


def resume(cluster: Cluster, name: str) -> None:
    """Lets a schedule start runs again. Missed runs are not made up for."""
    _switch(cluster, named(cluster, name)[0], on=True)


def delete(cluster: Cluster, name: str) -> None:
    """Deletes a schedule from the server. Its runs stay, also one in progress."""
    for run in named(cluster, name):
        retire(cluster, run)


def trigger(cluster: Cluster, name: str) -> str:
    """Starts the run of a schedule now, and returns its ID."""
    require_namespace(cluster.access)
    run = named(cluster, name)[0]
    reference = run.pipeline_version_reference
    version = Version(reference.pipeline_id, reference.pipeline_version_id, "", uploaded=False)
    parameters = run.runtime_config.parameters
    return start(cluster, version, run.experiment_id, new_name(name), parameters, run.service_account)


def retire(cluster: Cluster, run: Any) -> None:
    """Deletes a recurring run but keeps its runs, which Kubernetes would delete with their owner."""
    from pipelines.cluster.errors import Missing

    _switch(cluster, run, on=False)
    with suppress(Missing):  # it was deleted, and only the answer was lost
        cluster.call_with_retry(
            f"schedule {run.display_name}",
            cluster.client.recurring_runs.recurring_run_service_delete_recurring_run,
            recurring_run_id=run.recurring_run_id,
            propagation_policy="ORPHAN",
        )


def _switch(cluster: Cluster, run: Any, *, on: bool) -> None:
    calls = cluster.client.recurring_runs
    call = calls.recurring_run_service_enable_recurring_run if on else calls.recurring_run_service_disable_recurring_run
    cluster.call_with_retry(f"schedule {run.display_name}", call, recurring_run_id=run.recurring_run_id)


def _create(
    cluster: Cluster,
    schedule: Schedule,
    package: Package,
    digest: str,
    *,
    paused: bool,
) -> Any:
    import kfp_server_api as api

    version = send(cluster, package, NAME)  # finds the version that an earlier change uploaded

    server = f" to Kubeflow Pipelines {cluster.version}" if cluster.version else ""
    wanted = api.V2beta1RecurringRun(
        display_name=schedule.name,
        description=f"{schedule.cron.words} ({schedule.cron.time_zone}). Profile {package.profile}."
        f" Applied by wikigpt{server}, content {digest}.",
        experiment_id=experiment_id(cluster, EXPERIMENT),
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters=package.parameters),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule.cron.expression)),
        mode=api.RecurringRunMode.DISABLE if paused else api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,
        service_account=package.service_account,
    )

    def find() -> Any | None:
        return next((run for run in recurring_runs(cluster, schedule.name) if content(run)["digest"] == digest), None)

    return cluster.create_once(
        f"schedule {schedule.name}",
        cluster.client.recurring_runs.recurring_run_service_create_recurring_run,
        find,
        recurring_run=wanted,
    )


def _digest(schedule: Schedule, package: Package, version_name: str, server: str) -> str:
    cron = schedule.cron
    return digest_of(
        [cron.expression, cron.time_zone, version_name, package.parameters, package.service_account, server]
    )[:16]
