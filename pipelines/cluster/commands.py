"""`wikigpt submit`, `status`, `logs`, `cancel`, and the group `schedule`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipelines.cluster.options import (
    AllowMutableImage,
    Endpoint,
    Image,
    Namespace,
    RunId,
    Timeout,
    Wait,
    image_overrides,
    open_cluster,
)
from pipelines.cluster.schedule_commands import schedule
from pipelines.commands.options import Json, Profile, Sets
from pipelines.screen import print_json


def add_commands(app: typer.Typer) -> None:
    """Registers the commands of this module and the group `schedule`."""
    for command in (submit, status, logs, cancel):
        app.command()(command)
    app.add_typer(schedule)


def submit(
    profile: Profile = "nightly",
    sets: Sets = None,
    corpus: Annotated[
        str | None,
        typer.Option(envvar="WIKIGPT_CORPUS", help="A known name or an address; no folder of this machine."),
    ] = None,
    image: Image = None,
    allow_mutable_image: AllowMutableImage = False,
    wait: Wait = False,
    timeout: Timeout = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Run the pipeline on the cluster.

    The pipeline is compiled and checked first: a secret among the settings, a folder of this machine and an image
    without a digest are refused before anything is sent.
    """
    from pipelines.cluster import submission
    from pipelines.cluster.following import follow

    overrides = [*image_overrides(image, allow_mutable_image), *(sets or ())]
    sent = submission.package(profile, overrides, corpus)
    cluster = open_cluster(endpoint, namespace)
    submitted = submission.submit(cluster, sent)
    if as_json:
        print_json(submitted)
    else:
        typer.echo(submitted.run_id)
    typer.echo(f"{submitted.run_name}: {submitted.address}", err=True)
    if wait:
        follow(cluster, submitted.run_id, timeout)


def status(run: RunId, endpoint: Endpoint = None, namespace: Namespace = None, as_json: Json = False) -> None:
    """Show the steps of a run: states, durations, and what a pod waits for."""
    from pipelines.cluster.pods import explain, look_at_pods
    from pipelines.cluster.runs import fetch
    from pipelines.cluster.words import status_lines

    cluster = open_cluster(endpoint, namespace)
    seen = fetch(cluster, run)
    pods = look_at_pods(cluster.access, run)
    seen = explain(seen, pods)
    if as_json:
        print_json({**asdict(seen), "note": pods.note})
    else:
        typer.echo("\n".join(status_lines(seen, pods.note)))


def logs(
    run: RunId,
    step: Annotated[
        str | None, typer.Argument(help="Else the one that failed, the one that runs, or the last.")
    ] = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
) -> None:
    """Print what a step of a run has printed, as long as its pod or an archive has it."""
    from pipelines.cluster.logs import read_log, step_to_read
    from pipelines.cluster.pods import look_at_pods
    from pipelines.cluster.runs import fetch

    cluster = open_cluster(endpoint, namespace)
    seen = fetch(cluster, run)
    chosen = step_to_read(seen, step)
    typer.echo(f"step {chosen.name}, {chosen.state}", err=True)
    typer.echo(read_log(cluster, seen, chosen, look_at_pods(cluster.access, run)), nl=False)


def cancel(
    run: RunId, wait: Wait = False, timeout: Timeout = None, endpoint: Endpoint = None, namespace: Namespace = None
) -> None:
    """End a run. Training goes on from its last checkpoint when the same is submitted again."""
    from pipelines.cluster import watching

    cluster = open_cluster(endpoint, namespace)
    state = watching.cancel(cluster, run).state
    if wait:
        state = watching.wait(cluster, run, limit=timeout).state
    typer.echo(f"{run}: {state.lower()}", err=True)
