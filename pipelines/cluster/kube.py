"""Reads from Kubernetes with the kubeconfig or the service account of this pod.

This is optional: every command works with the API of Kubeflow Pipelines alone, and says what Kubernetes does not show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from pipelines.cluster.access import Access

HOME = "kubeflow"  # the namespace of Kubeflow Pipelines itself, and of the runs on a single-user server
RUN_LABEL = "pipeline/runid"
_TIMEOUT = (5.0, 30.0)


class NotVisible(Exception):
    """Kubernetes cannot be read. The text says why, as part of a sentence."""


def api_client(context: str | None = None) -> ApiClient:
    """The client of Kubernetes' API with the service account of this pod, or else with the kubeconfig.

    Args:
        context: the context of the kubeconfig; None takes its current one.

    Raises:
        NotVisible: there is neither a kubeconfig nor a service account.
    """
    from kubernetes import client, config

    settings = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=settings, context=context)
        except config.ConfigException as error:
            raise NotVisible("there is no kubeconfig") from error
    settings.retries = 1
    return client.ApiClient(settings)


class Kubernetes:
    """Read access to Kubernetes.

    Attributes:
        host: the address of its API.
        namespace: the namespace of the runs.

    Raises:
        NotVisible: there is neither a kubeconfig nor a service account.
    """

    def __init__(self, access: Access):
        from kubernetes import client

        api = api_client(access.kube_context)
        self.host, self.namespace = api.configuration.host, access.namespace or HOME
        self._core, self._apps = client.CoreV1Api(api), client.AppsV1Api(api)
        self._custom = client.CustomObjectsApi(api)

    def pods(self, run_id: str) -> list[Any]:
        """The pods of a run, the oldest first."""
        labels = f"{RUN_LABEL}={run_id}"
        what = f"the pods of {self.namespace}"
        found = self._ask(what, self._core.list_namespaced_pod, namespace=self.namespace, label_selector=labels)
        return sorted(found.items, key=lambda pod: pod.metadata.creation_timestamp) if found else []

    def log(self, pod: str) -> str | None:
        """The log of the container of a step; None if the pod does not exist."""
        what = f"the log of {pod}"
        call = self._core.read_namespaced_pod_log
        return self._ask(what, call, name=pod, namespace=self.namespace, container="main")

    def workflow_nodes(self, run_id: str) -> list[dict[str, Any]]:
        """The nodes of the Argo workflow of a run; none if the workflow does not exist."""
        found = self._ask(
            f"the workflows of {self.namespace}",
            self._custom.list_namespaced_custom_object,
            group="argoproj.io",
            version="v1alpha1",
            namespace=self.namespace,
            plural="workflows",
            label_selector=f"{RUN_LABEL}={run_id}",
        )
        workflows = found["items"] if found else []
        return [node for workflow in workflows for node in workflow.get("status", {}).get("nodes", {}).values()]

    def has_namespace(self, name: str) -> bool:
        """Whether a namespace exists."""
        return self._ask(f"the namespace {name}", self._core.read_namespace, name=name) is not None

    def config_map(self, name: str, namespace: str) -> dict[str, str] | None:
        """The data of a config map; None if it does not exist."""
        what = f"the config map {name}"
        found = self._ask(what, self._core.read_namespaced_config_map, name=name, namespace=namespace)
        return (found.data or {}) if found else None

    def deployment(self, name: str, namespace: str) -> Any | None:
        """A deployment; None if it does not exist."""
        what = f"the deployment {name}"
        return self._ask(what, self._apps.read_namespaced_deployment, name=name, namespace=namespace)

    def _ask(self, what: str, call: Callable[..., Any], **arguments: Any) -> Any | None:
        """The answer to a call; None if the object does not exist.

        Raises:
            NotVisible: Kubernetes cannot be reached, or denies access.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(**arguments, _request_timeout=_TIMEOUT)
        except ApiException as error:
            if error.status == 404:
                return None
            raise NotVisible(f"Kubernetes does not show {what}: {error.status} {error.reason}") from error
        except HTTPError as error:
            raise NotVisible(f"Kubernetes cannot be reached at {self.host}") from error
