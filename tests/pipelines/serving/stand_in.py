"""A cluster with one Deployment: the API that a rollout uses, over HTTP, and its controller as Kubernetes documents it.

The controller follows "Rolling Update Deployment" of the documentation and `pkg/controller/deployment/rolling.go`: a
The controller follows "Rolling Update Deployment" of the documentation and `pkg/controller/deployment/rolling.go`: a
unhealthy old pods removed first. A pod is available once it was ready for the `minReadySeconds` of its ReplicaSet,
which is that of the Deployment for the newest one only. Time passes only when the test says so.

Every object that is written must fit the published schema of Kubernetes.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate

from pipelines.serving.rollout_state import VERSION

Object = dict[str, Any]
NAMESPACE, NAME = "wikigpt-serving", "wikigpt-server"
LABELS = {"app.kubernetes.io/name": NAME}
_SCHEMA = kubernetes_validate.latest_version()


@dataclass
class Pod:
    """A pod; `ready_at` is None before it is ready."""

    name: str
    version: str
    created: float
    ready_at: float | None = None
    restarts: int = 0
    attempts: int = 0
    message: str = ""


@dataclass
class ReplicaSet:
    """The pods of one template."""

    version: str
    replicas: int = 0
    min_ready: int = 0
    pods: list[Pod] = field(default_factory=list)


class World:
    """The Deployment, its ReplicaSets and its Lease.

    Attributes:
        now: the time in seconds since 1970.
        start_seconds: how long a pod takes until it is ready.
        seconds_per_request: how much time passes with each request, for a command whose clock is not that of the world.
        address: the IP address of every pod.
        broken: versions whose pods never become ready.
        crashing: versions whose server is restarted this many seconds after it became ready.
        missing: versions whose files cannot be downloaded.
        without_node: versions whose pods no node takes.
        forbidden: the parts of a path that the account must not use.
        least_ready: the smallest number of ready pods since the first one was.
    """

    def __init__(self, replicas: int = 4, version: str = "7"):
        self.now = 1_800_000_000.0
        self.start_seconds = 5.0
        self.seconds_per_request = 0.0
        self.address = "10.0.0.1"
        self.broken: set[str] = set()
        self.crashing: dict[str, float] = {}
        self.missing: set[str] = set()
        self.without_node: set[str] = set()
        self.forbidden: set[str] = set()
        self.revision = self.names = 0
        self.deployment = _deployment(replicas, version)
        self.lease: Object = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": NAMESPACE, "resourceVersion": "0"},
            "spec": {},
        }
        self.sets: list[ReplicaSet] = []
        self.least_ready = 10**9
        self._changed(self.deployment)
        self.advance(60 if version else 0)
        self.least_ready = self.ready()

    def advance(self, seconds: float) -> None:
        """Lets time pass, second by second."""
        until = self.now + seconds
        while self.now < until:
            self.now += min(1.0, until - self.now)
            self._kubelet()
            self._control()
            self.least_ready = min(self.least_ready, self.ready())

    def scale(self, replicas: int) -> None:
        """What a HorizontalPodAutoscaler does."""
        self.deployment["spec"]["replicas"] = replicas
        self.deployment["metadata"]["generation"] += 1
        self._changed(self.deployment)

    def pods(self) -> list[Pod]:
        return [pod for each in self.sets for pod in each.pods]

    def count(self, version: str) -> int:
        """The number of pods of a version that get requests."""
        return sum(pod.ready_at is not None for pod in self.pods() if pod.version == version)

    def ready(self) -> int:
        return sum(pod.ready_at is not None for pod in self.pods())

    @property
    def version(self) -> str:
        """The version in the pod template."""
        return self.deployment["spec"]["template"]["metadata"].get("annotations", {}).get(VERSION, "")

    def replace(self, kept: Object, body: Object) -> Object:
        """Updates an object on the condition of its resourceVersion, if the request has one."""
        wanted = body["metadata"].get("resourceVersion")
        if wanted is not None and wanted != kept["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "the object has been modified")
        kubernetes_validate.validate(_without_nulls(body), _SCHEMA, strict=True)
        spec_before = kept.get("spec")
        kept.clear()
        kept.update(_without_nulls(body))
        if spec_before != kept["spec"] and "generation" in kept["metadata"]:
            kept["metadata"]["generation"] += 1
        return self._changed(kept)

    def patch_deployment(self, patch: Object) -> Object:
        """Merges a patch. It has no lists, for which a strategic merge and a JSON merge patch are the same."""
        assert not _has_list(patch)
        assert patch.keys() <= {"metadata", "spec"}
        merged = _merge(copy.deepcopy(self.deployment), patch)
        spec = merged["spec"]
        if spec.get("progressDeadlineSeconds", 600) <= spec.get("minReadySeconds", 0):
            raise ApiError(422, "Invalid", "spec.progressDeadlineSeconds: must be greater than minReadySeconds")
        return self.replace(self.deployment, merged)

    def _changed(self, kept: Object) -> Object:
        self.revision += 1
        kept["metadata"]["resourceVersion"] = str(self.revision)
        return kept

    # What the kubelet and the controllers do

    def _kubelet(self) -> None:
        for pod in self.pods():
            if pod.version in self.missing or not pod.version:
                pod.attempts = int((self.now - pod.created) // 20)
                pod.message = "wikigpt: wikigpt has no version 8 (the version asked for): name one that exists."
            elif pod.ready_at is None and pod.version not in self.broken | self.without_node:
                pod.ready_at = self.now if self.now >= pod.created + self.start_seconds else None
            elif pod.ready_at is not None and self.now >= pod.ready_at + self.crashing.get(pod.version, 1e18):
                pod.ready_at, pod.created, pod.restarts = None, self.now, pod.restarts + 1

    def _available(self, each: ReplicaSet) -> int:
        return sum(pod.ready_at is not None and self.now >= pod.ready_at + each.min_ready for pod in each.pods)

    def _control(self) -> None:
        spec = self.deployment["spec"]
        newest = next((each for each in self.sets if each.version == self.version), None)
        if spec.get("paused"):
            self._scale_in_proportion(spec["replicas"])
        else:
            if newest is None:
                newest = ReplicaSet(self.version)
                self.sets.append(newest)
            newest.min_ready = spec.get("minReadySeconds", 0)
            self._roll(spec, newest)
        for each in self.sets:
            while len(each.pods) < each.replicas:
                self.names += 1
                each.pods.append(Pod(f"{NAME}-{each.version}-{self.names}", each.version, self.now))
            # Pods that are not ready are deleted first, then the youngest.
            each.pods.sort(key=lambda pod: (pod.ready_at is None, pod.created))
            del each.pods[each.replicas :]
        self._write_status(newest)

    def _roll(self, spec: Object, newest: ReplicaSet) -> None:
        wanted, strategy = spec["replicas"], spec["strategy"]["rollingUpdate"]
        old = [each for each in self.sets if each is not newest]
        total = sum(each.replicas for each in self.sets)
        if newest.replicas > wanted:
            newest.replicas = wanted
            return
        if newest.replicas < wanted and total < wanted + strategy["maxSurge"]:
            newest.replicas += min(wanted + strategy["maxSurge"] - total, wanted - newest.replicas)
            return
        if not any(each.replicas for each in old):
            return
        least = wanted - strategy["maxUnavailable"]
        room = total - least - (newest.replicas - self._available(newest))
        if room <= 0:
            return
        for each in old:  # unhealthy pods first
            gone = max(0, min(each.replicas - self._available(each), room))
            each.replicas, room = each.replicas - gone, room - gone
        room = sum(self._available(each) for each in self.sets) - least
        for each in old:
            gone = max(0, min(each.replicas, room))
            each.replicas, room = each.replicas - gone, room - gone

    def _scale_in_proportion(self, wanted: int) -> None:
        """A paused Deployment is still scaled: the largest ReplicaSet gets what rounding leaves."""
        active = sorted((each for each in self.sets if each.replicas), key=lambda each: -each.replicas)
        total = sum(each.replicas for each in active)
        if not active or wanted <= total <= wanted + 1:
            return
        for each in active[1:]:
            each.replicas = round(each.replicas * wanted / total)
        active[0].replicas = wanted - sum(each.replicas for each in active[1:])

    def _write_status(self, newest: ReplicaSet | None) -> None:
        status = {
            "observedGeneration": self.deployment["metadata"]["generation"],
            "replicas": sum(each.replicas for each in self.sets),
            "updatedReplicas": newest.replicas if newest else 0,
            "readyReplicas": self.ready(),
            "availableReplicas": sum(self._available(each) for each in self.sets),
        }
        if self.deployment.get("status") != status:
            self.deployment["status"] = status
            self._changed(self.deployment)


class ApiError(Exception):
    """An answer that is a `Status`."""

    def __init__(self, code: int, reason: str, message: str):
        super().__init__(message)
        self.code, self.reason = code, reason

    @property
    def body(self) -> Object:
        status = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure"}
        return {**status, "message": str(self), "reason": self.reason, "code": self.code}


def handler_of(world: World) -> type[BaseHTTPRequestHandler]:
    """The API server."""

    class Api(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body are one packet, for which the client does not wait

        def do_GET(self) -> None:
            self._answer("get")

        def do_PATCH(self) -> None:
            self._answer("patch")

        def do_PUT(self) -> None:
            self._answer("update")

        def _answer(self, verb: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            world.advance(world.seconds_per_request)
            try:
                code, answer = 200, _route(world, verb, self.path, body, self.headers.get("Content-Type", ""))
            except ApiError as error:
                code, answer = error.code, error.body
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Api


def _route(world: World, verb: str, path: str, body: Object | None, kind: str) -> Object:
    parts = urlsplit(path)
    found = re.fullmatch(rf"/(?:api/v1|apis/[a-z0-9.]+/v1)/namespaces/{NAMESPACE}/(\w+)(?:/([\w-]+))?", parts.path)
    what, name = found.groups() if found else ("", "")
    if what in world.forbidden or f"{verb} {what}" in world.forbidden:
        raise ApiError(403, "Forbidden", f'{what} is forbidden: User "system:serviceaccount" cannot {verb} it')
    if what == "pods" and name is None and verb == "get":
        assert parse_qs(parts.query)["labelSelector"] == [",".join(f"{key}={value}" for key, value in LABELS.items())]
        return {
            "apiVersion": "v1",
            "kind": "PodList",
            "metadata": {},
            "items": [_pod(world, pod) for pod in world.pods()],
        }
    kept = {("deployments", NAME): world.deployment, ("leases", NAME): world.lease}.get((what, name))
    if kept is None:
        raise ApiError(404, "NotFound", f'{what} "{name}" not found')
    if verb == "get":
        return kept
    assert body is not None
    if verb == "patch" and what == "deployments":
        assert kind == "application/strategic-merge-patch+json"
        return world.patch_deployment(body)
    assert (verb, what) == ("update", "leases")
    return world.replace(kept, body)


def _deployment(replicas: int, version: str) -> Object:
    annotations = {"annotations": {VERSION: version}} if version else {}
    container = {"name": "server", "image": "example/engine:1"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "generation": 1, "resourceVersion": "0"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": LABELS, **annotations}, "spec": {"containers": [container]}},
        },
    }


def _pod(world: World, pod: Pod) -> Object:
    ready = pod.ready_at is not None
    scheduled = {"type": "PodScheduled", "status": "True"}
    if pod.version in world.without_node:
        message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        scheduled |= {"status": "False", "reason": "Unschedulable", "message": message}
    status = {"name": "server", "image": "x", "imageID": "x", "ready": ready, "restartCount": pod.restarts}
    download = {
        "name": "download",
        "image": "x",
        "imageID": "x",
        "ready": not pod.message,
        "restartCount": pod.attempts,
    }
    if pod.message:
        download["state"] = {"terminated": {"exitCode": 2, "reason": "Error", "message": pod.message}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": NAMESPACE,
            "labels": LABELS,
            "creationTimestamp": datetime.fromtimestamp(pod.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            **({"annotations": {VERSION: pod.version}} if pod.version else {}),
        },
        "spec": {"containers": [{"name": "server", "image": "example/engine:1"}]},
        "status": {
            "podIP": world.address,
            "conditions": [{"type": "Ready", "status": str(ready)}, scheduled],
            "containerStatuses": [status],
            "initContainerStatuses": [download],
        },
    }


def _merge(kept: Object, patch: Object) -> Object:
    for key, value in patch.items():
        if value is None:
            kept.pop(key, None)
        elif isinstance(value, dict):
            kept[key] = _merge(kept.get(key) or {}, value)
        else:
            kept[key] = value
    return kept


def _without_nulls(node: Any) -> Any:
    return (
        {key: _without_nulls(each) for key, each in node.items() if each is not None}
        if isinstance(node, dict)
        else node
    )


def _has_list(node: Any) -> bool:
    return isinstance(node, list) or (isinstance(node, dict) and any(map(_has_list, node.values())))
