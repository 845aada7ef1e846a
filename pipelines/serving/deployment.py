"""What the API of Kubernetes says about the Deployment that serves the champion, and about its pods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.serving.rollout_state import LIVE, ROLLOUT, VERSION, Live, Rollout

_DOWNLOAD, _SERVER = "download", "server"  # the containers of infra/serving; others may be added to a pod
# The reasons of the container runtime and of the kubelet for a container that ended with its node.
_LOST = ("Unknown", "ContainerStatusUnknown")


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


@dataclass(frozen=True)
class Pod:
    """A pod of the Deployment.

    Attributes:
        name: its name.
        address: its IP address; "" before it has one.
        version: the number of the version that it serves.
        ready: whether it gets requests through the Service.
        started: since when its server runs, in seconds since 1970; None if it does not run.
        ended: whether its server ended after it had started, for another reason than a reboot of its node.
        attempts: how often the download of its version was repeated.
        download_code: the exit code of the download; 0 while it runs, and after a success.
        unscheduled: why no node takes it, as the scheduler says it; "" if one has.
        trouble: why it is not ready or was restarted, as Kubernetes says it; "" if it says nothing.
    """

    name: str
    address: str
    version: str
    ready: bool
    started: float | None
    ended: bool
    attempts: int
    download_code: int
    unscheduled: str
    trouble: str


def deployment_of(found: dict[str, Any]) -> Deployment:
    """Reads a Deployment in the form of the API."""
    metadata, spec, status = found["metadata"], found["spec"], found.get("status", {})
    annotations = metadata.get("annotations") or {}
    replicas = spec.get("replicas", 1)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    observed = status.get("observedGeneration", 0) >= metadata.get("generation", 0)
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
    )


def pod_of(found: dict[str, Any]) -> Pod:
    """Reads a pod in the form of the API."""
    metadata, status = found["metadata"], found.get("status", {})
    conditions = status.get("conditions") or []
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    named = {each["name"]: each for each in containers}
    download, server = named.get(_DOWNLOAD, {}), named.get(_SERVER, {})
    running, end = server.get("state", {}).get("running"), _end(server)
    unscheduled = next(filter(None, map(_unscheduled, conditions)), "")
    return Pod(
        name=metadata["name"],
        address=status.get("podIP") or "",
        version=(metadata.get("annotations") or {}).get(VERSION, ""),
        ready=any(each["type"] == "Ready" and each["status"] == "True" for each in conditions),
        started=datetime.fromisoformat(running["startedAt"]).timestamp() if running else None,
        ended=bool(end) and end.get("reason") not in _LOST,
        attempts=download.get("restartCount", 0),
        download_code=0 if download.get("state", {}).get("running") else _end(download).get("exitCode", 0),
        unscheduled=unscheduled,
        trouble=next(filter(None, [*map(_ended, containers), *map(_waits, containers)]), unscheduled),
    )


def is_active(found: dict[str, Any]) -> bool:
    """Whether a pod counts for its ReplicaSet. One that is being deleted or was evicted is replaced by another."""
    ended = found.get("status", {}).get("phase") in ("Failed", "Succeeded")
    return not ended and "deletionTimestamp" not in found["metadata"]


def _end(container: dict[str, Any]) -> dict[str, Any]:
    """How a container ended last; a download that is complete has not failed, whatever its attempts before."""
    return container.get("state", {}).get("terminated") or container.get("lastState", {}).get("terminated") or {}


def _ended(container: dict[str, Any]) -> str:
    """Why a container ended: the end of its log, if the container wrote one."""
    ended = _end(container)
    if not ended.get("exitCode"):
        return ""
    last = (ended.get("message") or "").strip().splitlines()
    return f"{container['name']} ended with {ended.get('reason', 'Error')}{f': {last[-1]}' if last else ''}"


def _waits(container: dict[str, Any]) -> str:
    waiting = container.get("state", {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), (waiting.get("message") or "").strip()
    if reason in ("", "PodInitializing", "ContainerCreating"):
        return ""
    return f"{container['name']} waits: {reason}{f': {message.splitlines()[0]}' if message else ''}"


def _unscheduled(condition: dict[str, Any]) -> str:
    if condition["type"] != "PodScheduled" or condition["status"] == "True":
        return ""
    return (condition.get("message") or condition.get("reason") or "").rstrip(".")
