"""Whether the namespace of the runs exists. A server for one user takes any name, and starts runs in its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.kube import Kubernetes, NotVisible

if TYPE_CHECKING:
    from pipelines.cluster.access import Access


def require_namespace(access: Access) -> None:
    """Asks Kubernetes for the namespace that was given, where it can be asked.

    Without a kubeconfig, or without the right to read namespaces, nothing is known: then a server for several users
    refuses by itself a namespace in which we may do nothing, and a server for one user accepts it.

    Raises:
        Failure: Kubernetes has no such namespace.
    """
    if not access.namespace:
        return
    try:
        kubernetes = Kubernetes(access)
        there = kubernetes.has_namespace(access.namespace)
    except NotVisible:
        return
    if not there:
        raise Failure(
            f"There is no namespace {access.namespace!r}",
            where=kubernetes.host,
            remedy="fix --namespace, or name the right cluster of the kubeconfig by KF_PIPELINES_KUBE_CONTEXT",
            exit_code=ExitCode.USAGE,
        )
