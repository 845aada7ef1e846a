"""`wikigpt submit`, `status`, `logs` and `cancel`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pipelines.cli.cluster_options import (
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
from pipelines.cli.options import Force, Json, Profile, Sets
from pipelines.cli.screen import print_json


def submit(
    profile: Profile = "nightly",
    sets: Sets = None,
    corpus: Annotated[
        str | None,
        typer.Option(envvar="WIKIGPT_CORPUS", help="A known name or an address; no folder of this machine."),
    ] = None,
    force: Force = False,
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
    from pipelines.cli.following import follow
    from pipelines.cluster import submission

    overrides = [*image_overrides(image, allow_mutable_image), *(sets or ())]
    sent = submission.package(profile, overrides, corpus, force=force)
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
    """Show the steps of a run: states, durations, what a pod waits for, and why a step failed."""
    from pipelines.cluster.formatting import status_lines
    from pipelines.cluster.inspection import inspect

    seen, note = inspect(open_cluster(endpoint, namespace), run)
    if as_json:
        print_json({**asdict(seen), "note": note})
    else:
        typer.echo("\n".join(status_lines(seen, note)))


def logs(
    run: RunId,
    step: Annotated[
        str | None, typer.Argument(help="By default the step that failed, the one that runs, or the last one.")
    ] = None,
    endpoint: Endpoint = None,
    namespace: Namespace = None,
) -> None:
    """Print the log of a step, from its pod, the server, or the copy in object storage."""
    from pipelines.cluster.logs import read_log, step_to_read
    from pipelines.cluster.pods import list_pods
    from pipelines.cluster.runs import get_run, parse_run

    cluster = open_cluster(endpoint, namespace)
    seen = get_run(cluster, run)
    chosen = step_to_read(parse_run(seen), step)
    typer.echo(f"step {chosen.name}, {chosen.state}", err=True)
    typer.echo(read_log(cluster, seen, chosen, list_pods(cluster.access, run)), nl=False)


def cancel(
    run: RunId, wait: Wait = False, timeout: Timeout = None, endpoint: Endpoint = None, namespace: Namespace = None
) -> None:
    """Cancel a run, and end its heartbeat and its MLflow run if WIKIGPT_STORE and MLFLOW_TRACKING_URI are set.

    Submitted again, the same run resumes from its last checkpoint.
    """
    from pipelines.cluster import wait as waiting
    from pipelines.cluster.cancellation import close_run

    cluster = open_cluster(endpoint, namespace)
    seen = waiting.cancel(cluster, run)
    if wait:
        seen = waiting.wait(cluster, run, limit=timeout)
    elif not seen.over:
        seen = waiting.wait_for_cancellation(cluster, run)
    typer.echo(f"{run}: {seen.word}", err=True)
    # A step that still runs would write its heartbeat again.
    remains = (
        close_run(run)
        if seen.over
        else f"The run is not over yet; `wikigpt cancel {run} --wait` ends its heartbeat and its MLflow run."
    )
    if remains:
        typer.echo(remains, err=True)
