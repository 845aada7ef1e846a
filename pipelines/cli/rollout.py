"""`wikigpt rollout`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from components.shared.base.failure import ExitCode, Failure, variable_failure
from components.shared.base.ranges import Form, Range
from pipelines.cli import options
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder, Json, Plan, Store
from pipelines.cli.registry import Model, registry_of, store_with_locks
from pipelines.cli.screen import print_json, print_to_stderr, reported

if TYPE_CHECKING:
    from pipelines.serving.serving_cluster import ServingCluster

_NAME = Form(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "the name of an object of Kubernetes")


def rollout(
    model: Model = None,
    deployment: Annotated[
        str, typer.Option(callback=within(_NAME), help="The Deployment that serves the champion.")
    ] = "wikigpt-server",
    namespace: Annotated[str, typer.Option(callback=within(_NAME), help="Its namespace.")] = "wikigpt-serving",
    port: Annotated[
        int, typer.Option(callback=within(Range(1, 65_535)), help="The port of the engine in its pods.")
    ] = 8000,
    ready_timeout: Annotated[
        float, typer.Option(callback=within(Range(1, 86_400)), help="Seconds to wait for the next pod to be ready.")
    ] = 900.0,
    max_p99_ratio: Annotated[
        float,
        typer.Option(callback=within(Range(0.01, 1000)), help="Highest p99 latency, in multiples of an old pod's."),
    ] = 1.1,
    max_p99: Annotated[
        float | None,
        typer.Option(
            callback=within(Range(0.001, 3600)), help="Highest p99 latency in seconds, in place of the ratio."
        ),
    ] = None,
    listen: Annotated[
        int | None,
        typer.Option(
            callback=within(Range(1, 65_535)),
            help="Wait on this port for MLflow's webhook, and roll out whenever the champion is moved.",
        ),
    ] = None,
    plan: Plan = False,
    status: Annotated[
        bool, typer.Option("--status", help="Show what is live, since when, and how far a rollout is; change nothing.")
    ] = False,
    as_json: Json = False,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Serve the champion on a cluster: roll it out in stages, or take it back if it fails.

    The Deployment is that of `infra/serving`, whose CronJob runs this command. An interrupted rollout is continued.
    """
    from pipelines.local.ports import require_free
    from pipelines.registry.clicks import record_click
    from pipelines.registry.references import model_name
    from pipelines.serving.lease import Busy
    from pipelines.serving.pod_checks import pod_tester
    from pipelines.serving.rollout import Roller
    from pipelines.serving.rollout_registry import registry_for_rollout
    from pipelines.serving.rollout_status import planned_stages, status_lines, status_of
    from pipelines.serving.smoke import Limits
    from pipelines.serving.wanted import wanted_version
    from pipelines.serving.webhook import listen as listen_to_webhook

    cluster = _serving_cluster(namespace, deployment)
    if status:
        found = status_of(cluster)
        print_json(found) if as_json else typer.echo("\n".join(status_lines(found)))
        return
    if plan:
        seen = cluster.deployment()
        with registry_of(home) as client:
            wanted = wanted_version(client, model_name(client, model), seen.version).version
        stages = planned_stages(seen, wanted)
        print_json({"stages": stages}) if as_json else typer.echo("\n".join(stages) or "There is nothing to change.")
        return
    limits = Limits(p99_ratio=max_p99_ratio, p99_seconds=max_p99)
    locks = store_with_locks(home, store)

    def roll() -> None:
        with registry_of(home) as client:
            name = model_name(client, model)
            with reported("A click that moved the alias is not in the history yet"):
                record_click(client, name, locks, "rollout")
            of_registry = registry_for_rollout(client, name, locks, print_to_stderr)
            test = pod_tester(client, name, limits, port)
            try:
                version = Roller(cluster, of_registry, test, ready_timeout, print_to_stderr).run()
            except Busy as busy:
                print_to_stderr(f"Another rollout is in progress ({busy}), so this one does nothing.")
                return
        live = {"model": name, "version": version}
        print_json(live) if as_json else typer.echo(f"Version {version} of {name} is live.")

    if listen is None:
        roll()
        return
    require_free(listen, "The receiver of the webhook", "0.0.0.0", option="--listen")
    listen_to_webhook(listen, _webhook_secret(), model, roll, print_to_stderr)


def _webhook_secret() -> str:
    from pipelines.serving.webhook import SECRET

    if secret := os.environ.get(SECRET, ""):
        return secret
    raise variable_failure(
        f"{SECRET} is not set, so anybody could start a rollout", "set the secret of MLflow's webhook"
    )


def _serving_cluster(namespace: str, deployment: str) -> ServingCluster:
    from pipelines.cluster.kube import NotVisible, api_client
    from pipelines.serving.serving_cluster import ServingCluster

    try:
        return ServingCluster(api_client(os.environ.get("KF_PIPELINES_KUBE_CONTEXT")), namespace, deployment)
    except NotVisible as error:
        raise Failure(
            f"Kubernetes cannot be used: {error}",
            where="the service account of the pod, KUBECONFIG",
            remedy="run the command in the cluster, or give it a kubeconfig",
            exit_code=ExitCode.USAGE,
        ) from error
