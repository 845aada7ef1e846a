"""Schedules on the server, where they are called recurring runs.

A recurring run cannot be changed, and a second one of the same name would run beside the first. So each carries the
digest of its content in its description: an unchanged one is left alone, a changed one is replaced, the new one enabled
before the old one goes. The version of the server is part of the content: a recurring run keeps the launcher and driver
images of the day on which it was made, also after an upgrade (kubeflow/pipelines#13933).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.manifest import digest_of
from pipelines.cluster.namespaces import require_namespace
from pipelines.cluster.schedules import Schedule
from pipelines.cluster.submission import EXPERIMENT, Package, new_name, send, start
from pipelines.cluster.versions import Version, equals, experiment_id, find_experiment

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

_CONTENT = re.compile(
    r"\((?P<time_zone>\S+)\)\. Profile (?P<profile>\S+)\."
    r" Applied by wikigpt( to Kubeflow Pipelines (?P<server>[^,]+))?, content (?P<digest>\w+)\."
)


@dataclass(frozen=True)
class Applied:
    """What applying a schedule came to.

    Attributes:
        name: of the schedule.
        action: what was done.
        paused: whether it is paused, as somebody left it.
        retired: how many recurring runs were retired.
    """

    name: str
    action: Literal["created", "replaced", "unchanged"]
    paused: bool
    retired: int


def apply_schedule(cluster: Cluster, schedule: Schedule, sent: Package) -> Applied:
    """Makes the server do what a schedule says, and nothing where it does.

    Raises:
        Failure: the server cannot be asked, or refuses; then the old schedule still stands.
    """
    from pipelines.training import NAME

    version, experiment = send(cluster, sent, NAME), experiment_id(cluster, EXPERIMENT)
    digest = _digest(schedule, sent, version, cluster.version)
    before = recurring_runs(cluster, schedule.name)
    same = [run for run in before if content(run)["digest"] == digest]
    paused = bool(before) and all(run.status == "DISABLED" for run in before)
    kept = same[0] if same else _create(cluster, schedule, sent, version, experiment, digest, paused=paused)
    if kept.status == "DISABLED" and not paused:
        _switch(cluster, kept, on=True)
    others = [run for run in before if run.recurring_run_id != kept.recurring_run_id]
    for run in others:
        retire(cluster, run)
    action: Literal["created", "replaced", "unchanged"] = "unchanged" if same else "replaced" if before else "created"
    return Applied(schedule.name, action, paused, len(others))


def recurring_runs(cluster: Cluster, name: str | None = None) -> list[Any]:
    """The recurring runs that we applied, the newest first, of one name or of all.

    One that somebody made by hand is not ours, whatever it is called.
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
    """What the description of a recurring run says of its content: time_zone, profile, server, digest."""
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
    """Stops a schedule from starting runs; the run that goes on now is left alone."""
    for run in named(cluster, name):
        _switch(cluster, run, on=False)


def resume(cluster: Cluster, name: str) -> None:
    """Lets a schedule start runs again. Nights that passed meanwhile are not made up for."""
    _switch(cluster, named(cluster, name)[0], on=True)


def delete(cluster: Cluster, name: str) -> None:
    """Takes a schedule off the server; its runs stay, also one that goes on now."""
    for run in named(cluster, name):
        retire(cluster, run)


def trigger(cluster: Cluster, name: str) -> str:
    """Starts a run now, with what the schedule would start, and gives its identity."""
    require_namespace(cluster.access)
    run = named(cluster, name)[0]
    reference = run.pipeline_version_reference
    version = Version(reference.pipeline_id, reference.pipeline_version_id, "", uploaded=False)
    parameters = run.runtime_config.parameters
    return start(cluster, version, run.experiment_id, new_name(name), parameters, run.service_account)


def retire(cluster: Cluster, run: Any) -> None:
    """Takes a recurring run off the server, without its runs: Kubernetes would end them with their owner."""
    from pipelines.cluster.errors import Missing

    _switch(cluster, run, on=False)
    with suppress(Missing):  # it is gone, and only the answer was lost
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
    sent: Package,
    version: Version,
    experiment: str,
    digest: str,
    *,
    paused: bool,
) -> Any:
    import kfp_server_api as api

    server = f" to Kubeflow Pipelines {cluster.version}" if cluster.version else ""
    wanted = api.V2beta1RecurringRun(
        display_name=schedule.name,
        description=f"{schedule.cron.words} ({schedule.cron.time_zone}). Profile {sent.profile}."
        f" Applied by wikigpt{server}, content {digest}.",
        experiment_id=experiment,
        pipeline_version_reference=api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id
        ),
        runtime_config=api.V2beta1RuntimeConfig(parameters={"settings": sent.settings}),
        trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=schedule.cron.expression)),
        mode=api.RecurringRunMode.DISABLE if paused else api.RecurringRunMode.ENABLE,
        max_concurrency="1",
        no_catchup=True,
        service_account=sent.service_account,
    )

    def find() -> Any | None:
        return next((run for run in recurring_runs(cluster, schedule.name) if content(run)["digest"] == digest), None)

    return cluster.create_once(
        f"schedule {schedule.name}",
        cluster.client.recurring_runs.recurring_run_service_create_recurring_run,
        find,
        recurring_run=wanted,
    )


def _digest(schedule: Schedule, sent: Package, version: Version, server: str) -> str:
    cron = schedule.cron
    return digest_of([cron.expression, cron.time_zone, version.name, sent.settings, sent.service_account, server])[:16]
