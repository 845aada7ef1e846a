"""Options of the commands for a cluster, and the connection that they open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.cli.limits import SECONDS, within

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

Endpoint = Annotated[
    str | None,
    typer.Option(
        envvar="KF_PIPELINES_ENDPOINT",
        help="Address of Kubeflow Pipelines. By default the cluster of this pod, or that of the kubeconfig.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(envvar="KF_PIPELINES_NAMESPACE", help="Namespace of the runs. A multi-user server needs it."),
]
Image = Annotated[
    str | None, typer.Option(envvar="WIKIGPT_IMAGE", help="The image of the steps, as `registry/wikigpt@sha256:…`.")
]
AllowMutableImage = Annotated[
    bool, typer.Option("--allow-mutable-image", help="Accept an image by tag, whose bytes may change under a run.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end of the run, and exit with its exit code.")]
Timeout = Annotated[
    float | None,
    typer.Option(callback=within(SECONDS), help="Seconds to wait at most. The run continues after them."),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="ID of the run, as `submit` prints it.")]


def open_cluster(endpoint: str | None, namespace: str | None) -> Cluster:
    """Connects to the server that the options and the environment name.

    Raises:
        Failure: it cannot be reached.
    """
    from pipelines.cluster.access import resolve_access
    from pipelines.cluster.connection import connect

    return connect(resolve_access(endpoint, namespace))


def image_overrides(image: str | None, allow_mutable_image: bool) -> list[str]:
    """The options for the image, as overrides of settings."""
    overrides = [f"cluster.image={image}"] if image else []
    return [*overrides, "cluster.allow_mutable_image=true"] if allow_mutable_image else overrides
