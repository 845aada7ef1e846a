"""The Deployment that serves the champion, its pods and its lease, by the API of Kubernetes.

Every write is conditional on the `resourceVersion` that was read before it, so a process that was suspended for a while
cannot overwrite what another one did since.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.deployment import Deployment, Pod, deployment_of, is_active, pod_of

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_TIMEOUT = (5.0, 30.0)
_MANAGER = "wikigpt-rollout"


class Conflict(Exception):
    """The object was changed after it was read."""


class ServingCluster:
    """The objects of one Deployment in one namespace.

    Args:
        api: the client of Kubernetes' API.
        namespace: the namespace.
        name: the name of the Deployment, which is also that of its Lease.
    """

    def __init__(self, api: ApiClient, namespace: str, name: str):
        from kubernetes import client

        self.host, self.namespace, self.name = api.configuration.host, namespace, name
        self._api = api
        self._apps, self._core = client.AppsV1Api(api), client.CoreV1Api(api)
        self._leases = client.CoordinationV1Api(api)

    def deployment(self) -> Deployment:
        """Reads the Deployment.

        Raises:
            Failure: it does not exist, must not be read, or Kubernetes cannot be reached.
        """
        found = self._call(f"Deployment {self.name}", self._apps.read_namespaced_deployment, name=self.name)
        return deployment_of(self._api.sanitize_for_serialization(found))

    def pods(self, selector: str) -> list[Pod]:
        """The pods of the Deployment that are neither being deleted nor evicted, the oldest first.

        Raises:
            Failure: see `deployment`.
        """
        answer = self._call("list of pods", self._core.list_namespaced_pod, label_selector=selector)
        found = [self._api.sanitize_for_serialization(pod) for pod in answer.items]
        active = filter(is_active, found)
        return [pod_of(pod) for pod in sorted(active, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))]

    def patch(
        self,
        seen: Deployment,
        annotations: dict[str, str | None],
        spec: dict[str, Any] | None = None,
    ) -> Deployment:
        """Changes the Deployment if it is as it was seen.

        Args:
            seen: what was read.
            annotations: annotations of the Deployment; None removes one.
            spec: the fields of its `spec` that change.

        Raises:
            Conflict: it has changed since.
            Failure: see `deployment`.
        """
        body: dict[str, Any] = {
            "metadata": {"resourceVersion": seen.resource_version, "annotations": annotations},
            "spec": spec or {},
        }
        found = self._call(
            f"Deployment {self.name}",
            self._apps.patch_namespaced_deployment,
            name=self.name,
            body=body,
            field_manager=_MANAGER,
        )
        return deployment_of(self._api.sanitize_for_serialization(found))

    def read_lease(self) -> dict[str, Any]:
        """The Lease that excludes other rollouts, as JSON.

        Raises:
            Failure: see `deployment`.
        """
        found = self._call(f"Lease {self.name}", self._leases.read_namespaced_lease, name=self.name)
        return self._api.sanitize_for_serialization(found)

    def replace_lease(self, lease: dict[str, Any]) -> dict[str, Any]:
        """Writes the Lease if it has not changed since it was read.

        Raises:
            Conflict: it has changed.
            Failure: see `deployment`.
        """
        found = self._call(f"Lease {self.name}", self._leases.replace_namespaced_lease, name=self.name, body=lease)
        return self._api.sanitize_for_serialization(found)

    def _call(self, subject: str, call: Callable[..., Any], **arguments: Any) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        try:
            return call(namespace=self.namespace, _request_timeout=_TIMEOUT, **arguments)
        except ApiException as error:
            if error.status == 409:
                raise Conflict from error
            raise self._refused(subject, error) from error
        except HTTPError as error:
            raise Failure(
                "Kubernetes does not answer",
                where=self.host,
                remedy="run again; what is served does not depend on this command",
                exit_code=ExitCode.UNREACHABLE,
            ) from error

    def _refused(self, subject: str, error: Any) -> Failure:
        where = f"namespace {self.namespace} at {self.host}"
        if error.status == 404:
            what = f"There is no {subject}"
            return Failure(what, where=where, remedy="apply infra/serving first", exit_code=ExitCode.USAGE)
        if error.status in (401, 403):
            return Failure(
                f"Kubernetes does not permit this account to use the {subject} ({error.status})",
                where=where,
                remedy="bind the Role wikigpt-rollout of infra/serving to it",
                exit_code=ExitCode.UNAUTHORISED,
            )
        unreachable = error.status is None or error.status >= 500 or error.status == 429
        return Failure(
            f"Kubernetes answers {error.status} {error.reason} for the {subject}",
            where=where,
            remedy="run again" if unreachable else "compare the Deployment with infra/serving",
            exit_code=ExitCode.UNREACHABLE if unreachable else ExitCode.FAILED,
        )
