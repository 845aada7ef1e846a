"""Options of the commands that talk to a cluster, and the server that they name."""

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
        help="Address of Kubeflow Pipelines. Else the cluster around this process, else the kubeconfig's.",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(envvar="KF_PIPELINES_NAMESPACE", help="Of the runs; a server for several users needs it."),
]
Image = Annotated[
    str | None, typer.Option(envvar="WIKIGPT_IMAGE", help="The image of the steps, as `registry/wikigpt@sha256:…`.")
]
AllowMutableImage = Annotated[
    bool, typer.Option("--allow-mutable-image", help="Accept an image by tag, whose bytes may change under a run.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait for the end of the run; its exit code is then the command's.")]
Timeout = Annotated[
    float | None,
    typer.Option(callback=within(SECONDS), help="Seconds to wait at most; the run goes on after them."),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Identity of the run, as `submit` prints it.")]


def open_cluster(endpoint: str | None, namespace: str | None) -> Cluster:
    """The server that the options and the environment name.

    Raises:
        Failure: it cannot be reached.
    """
    from pipelines.cluster.access import resolve_access
    from pipelines.cluster.connection import connect

    return connect(resolve_access(endpoint, namespace))


def image_overrides(image: str | None, allow_mutable_image: bool) -> list[str]:
    """The options of the image as settings."""
    overrides = [f"cluster.image={image}"] if image else []
    return [*overrides, "cluster.allow_mutable_image=true"] if allow_mutable_image else overrides
