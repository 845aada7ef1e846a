"""The Deployment that serves the champion, its pods and its lease, by the API of Kubernetes.

Every write is conditional on the `resourceVersion` that was read before it, so a process that was suspended for a while
cannot overwrite what another one did since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.rollout_state import LIVE, ROLLOUT, VERSION, Live, Rollout

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

_TIMEOUT = (5.0, 30.0)
_MANAGER = "wikigpt-rollout"


class Conflict(Exception):
    """The object was changed after it was read."""


@dataclass(frozen=True)
class Deployment:
    """What a Deployment says.

    Attributes:
        name, resource_version: of its metadata.
        replicas: the number of pods that it should have.
        version: the number of the version in its pod template; "" if none has been rolled out.
        rollout: the rollout in progress, or None.
        live: the version that was rolled out last, or None.
        selector: the labels of its pods, as a selector.
        paused: whether its controller replaces no pods.
        settled: whether all of its pods are of the current template and available, and no other pod is left.
        stuck: why its controller makes no progress, or "".
    """

    name: str
    resource_version: str
    replicas: int
    version: str
    rollout: Rollout | None
    live: Live | None
    selector: str
    paused: bool
    settled: bool
    stuck: str


@dataclass(frozen=True)
class Pod:
    """A pod of the Deployment.

    Attributes:
        name: its name.
        address: its IP address; "" before it has one.
        version: the number of the version that it serves.
        ready: whether it gets requests through the Service.
        restarts: how often its server was restarted.
        attempts: how often the download of its version was repeated.
        trouble: why it is not ready or was restarted, as Kubernetes says it; "" if it says nothing.
    """

    name: str
    address: str
    version: str
    ready: bool
    restarts: int
    attempts: int
    trouble: str


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
        return _deployment(self._api.sanitize_for_serialization(found))

    def pods(self, selector: str) -> list[Pod]:
        """The pods of the Deployment that are not being deleted, the oldest first.

        Raises:
            Failure: see `deployment`.
        """
        answer = self._call("list of pods", self._core.list_namespaced_pod, label_selector=selector)
        found = [self._api.sanitize_for_serialization(pod) for pod in answer.items]
        there = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
        return [_pod(pod) for pod in sorted(there, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))]

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
        return _deployment(self._api.sanitize_for_serialization(found))

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


def _deployment(found: dict[str, Any]) -> Deployment:
    metadata, spec, status = found["metadata"], found["spec"], found.get("status", {})
    annotations = metadata.get("annotations") or {}
    replicas = spec.get("replicas", 1)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    observed = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
    stuck = [
        condition.get("message", "")
        for condition in status.get("conditions") or []
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
    ]
    return Deployment(
        name=metadata["name"],
        resource_version=metadata["resourceVersion"],
        replicas=replicas,
        version=(spec["template"]["metadata"].get("annotations") or {}).get(VERSION, ""),
        rollout=Rollout.from_text(annotations[ROLLOUT]) if annotations.get(ROLLOUT) else None,
        live=Live.from_text(annotations[LIVE]) if annotations.get(LIVE) else None,
        selector=",".join(f"{key}={value}" for key, value in sorted(spec["selector"]["matchLabels"].items())),
        paused=bool(spec.get("paused")),
        settled=observed and not spec.get("paused") and counts == [replicas] * 3,
        stuck=stuck[0] if stuck and observed else "",
    )


def _pod(found: dict[str, Any]) -> Pod:
    metadata, status = found["metadata"], found.get("status", {})
    downloads, servers = status.get("initContainerStatuses") or [], status.get("containerStatuses") or []
    conditions = status.get("conditions") or []
    said = [*map(_ended, [*downloads, *servers]), *map(_waits, [*downloads, *servers]), *map(_unscheduled, conditions)]
    return Pod(
        name=metadata["name"],
        address=status.get("podIP") or "",
        version=(metadata.get("annotations") or {}).get(VERSION, ""),
        ready=any(each["type"] == "Ready" and each["status"] == "True" for each in conditions),
        restarts=sum(each.get("restartCount", 0) for each in servers),
        attempts=sum(each.get("restartCount", 0) for each in downloads),
        trouble=next(filter(None, said), ""),
    )


def _ended(container: dict[str, Any]) -> str:
    """Why a container ended: the end of its log, if the container wrote one."""
    ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated") or {}
    if not ended.get("exitCode"):
        return ""
    last = (ended.get("message") or "").strip().splitlines()
    return f"{container['name']} ended with {ended.get('reason', 'Error')}{f': {last[-1]}' if last else ''}"


def _waits(container: dict[str, Any]) -> str:
    waiting = container.get("state", {}).get("waiting") or {}
    reason = waiting.get("reason", "")
    return "" if reason in ("", "PodInitializing", "ContainerCreating") else f"{container['name']} waits: {reason}"


def _unscheduled(condition: dict[str, Any]) -> str:
    if condition["type"] != "PodScheduled" or condition["status"] == "True":
        return ""
    return condition.get("message") or condition.get("reason") or ""
