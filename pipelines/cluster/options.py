"""Options of the commands that talk to a cluster, and the server that they name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines.commands.limits import SECONDS, within

if TYPE_CHECKING:
    from pipelines.cluster.access import Access
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
    from pipelines.cluster.connection import connect

    return connect(access_of(endpoint, namespace))


def access_of(endpoint: str | None, namespace: str | None) -> Access:
    """How the options and the environment say that a server is reached, and as whom.

    KF_PIPELINES_TOKEN and KF_PIPELINES_COOKIES say who we are; they are no options, since every process of this
    machine could read them there.
    """
    from pipelines.cluster.access import Access

    return Access(
        endpoint=endpoint,
        namespace=namespace,
        token=os.environ.get("KF_PIPELINES_TOKEN"),
        cookies=os.environ.get("KF_PIPELINES_COOKIES"),
        ca_cert=os.environ.get("KF_PIPELINES_CA_CERT"),
        kube_context=os.environ.get("KF_PIPELINES_KUBE_CONTEXT"),
    )


def image_overrides(image: str | None, allow_mutable_image: bool) -> list[str]:
    """The options of the image as settings."""
    overrides = [f"cluster.image={image}"] if image else []
    return [*overrides, "cluster.allow_mutable_image=true"] if allow_mutable_image else overrides
