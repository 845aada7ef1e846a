"""`wikigpt schedule`: applies `infra/schedules` to the server, and shows the schedules there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from components.shared.base.failure import ExitCode, Failure
from pipelines.cli.cluster_options import (
    AllowMutableImage,
    Endpoint,
    Image,
    Namespace,
    Timeout,
    Wait,
    image_overrides,
    open_cluster,
)
from pipelines.cli.options import Json, Plan
from pipelines.cli.screen import print_json, print_plan, print_to_stderr

schedule = typer.Typer(name="schedule", help="Runs that the server starts at fixed times.", no_args_is_help=True)
Folder = Annotated[Path, typer.Option("--from", help="The folder with one YAML file per schedule.")]
Name = Annotated[str, typer.Argument(help="The name of the schedule.")]
FOLDER = Path("infra/schedules")


@schedule.command()
def apply(
    folder: Folder = FOLDER,
    plan: Plan = False,
    image: Image = None,
    allow_mutable_image: AllowMutableImage = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
) -> None:
    """Create and replace schedules, so that the server has those of the files. Applied twice, it changes nothing."""
    from pipelines.cluster.formatting import cron_line
    from pipelines.cluster.recurring import plan_schedules
    from pipelines.cluster.schedules import read_schedules
    from pipelines.cluster.submission import package
    from pipelines.planned_changes import apply_changes

    fixed = image_overrides(image, allow_mutable_image)
    wanted = [(each, package(each.profile, [*fixed, *each.overrides])) for each in read_schedules(folder)]
    plans = plan_schedules(open_cluster(endpoint, namespace), wanted)
    if plan:
        print_plan(change for each in plans for change in each.changes)
        return
    for planned, (each, _) in zip(plans, wanted, strict=True):
        apply_changes(planned.changes, print_to_stderr)
        paused = ", and stays paused" if planned.paused else ""
        typer.echo(f"{each.name}: {planned.action}{paused}")
        typer.echo(f"  {cron_line(each.cron, each.cron.next_times(datetime.now(UTC)))}")


@schedule.command("list")
def show(
    folder: Folder = FOLDER,
    check: Annotated[
        bool,
        typer.Option("--check", help="Exit with code 1 if a schedule is overdue or not applied, for monitoring."),
    ] = False,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Show the schedules of the server: when each is due, how its last run ended, and whether one is overdue."""
    from pipelines.cluster.formatting import schedule_lines
    from pipelines.cluster.schedule_status import schedule_statuses
    from pipelines.cluster.schedules import read_schedules

    if check and not folder.is_dir():
        raise Failure(
            "The folder of the schedules does not exist, so it is unknown which should be applied",
            where=str(folder),
            remedy="give it by --from",
            exit_code=ExitCode.USAGE,
        )
    written = {wanted.name for wanted in read_schedules(folder)} if folder.is_dir() else set()
    statuses = schedule_statuses(open_cluster(endpoint, namespace))
    missing = sorted(written - {status.name for status in statuses})
    if as_json:
        print_json({"schedules": statuses, "not_applied": missing})
    else:
        for status in statuses:
            typer.echo("\n".join(schedule_lines(status)))
        for name in missing:
            typer.echo(f"{name}  not applied: it is in {folder} only")
    if check and (missing or any(status.overdue for status in statuses)):
        raise typer.Exit(int(ExitCode.FAILED))


@schedule.command()
def pause(name: Name, endpoint: Endpoint = None, namespace: Namespace = None) -> None:
    """Stop a schedule from starting runs. A run in progress continues."""
    from pipelines.cluster import recurring

    recurring.pause(open_cluster(endpoint, namespace), name)
    typer.echo(f"{name}: paused")


@schedule.command()
def resume(name: Name, endpoint: Endpoint = None, namespace: Namespace = None) -> None:
    """Let a schedule start runs again. Missed runs are not made up for."""
    from pipelines.cluster import recurring

    recurring.resume(open_cluster(endpoint, namespace), name)
    typer.echo(f"{name}: resumed")


@schedule.command()
def delete(name: Name, endpoint: Endpoint = None, namespace: Namespace = None) -> None:
    """Delete a schedule from the server. Its runs stay, also one in progress."""
    from pipelines.cluster import recurring

    recurring.delete(open_cluster(endpoint, namespace), name)
    typer.echo(f"{name}: deleted")


@schedule.command()
def trigger(
    name: Name, wait: Wait = False, timeout: Timeout = None, endpoint: Endpoint = None, namespace: Namespace = None
) -> None:
    """Start the run of the schedule now."""
    from pipelines.cli.following import follow
    from pipelines.cluster import recurring

    cluster = open_cluster(endpoint, namespace)
    run_id = recurring.trigger(cluster, name)
    typer.echo(run_id)
    if wait:
        follow(cluster, run_id, timeout)
