"""Checks the namespace of the runs. A single-user server accepts any name and starts runs in its own namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.kube import Kubernetes, NotVisible

if TYPE_CHECKING:
    from pipelines.cluster.access import Access


def require_namespace(access: Access) -> None:
    """Checks that the given namespace exists, if Kubernetes is accessible.

    Without a kubeconfig, or without permission to read namespaces, this is unknown. A multi-user server then refuses a
    namespace without permissions by itself, and a single-user server accepts it.

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
