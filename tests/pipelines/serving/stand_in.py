"""A cluster with one Deployment: the API that a rollout uses, over HTTP, and its controller as Kubernetes documents it.

The controller follows "Rolling Update Deployment" of the documentation and `pkg/controller/deployment/rolling.go`: a
pod more than wanted is started, an old one is removed only as far as enough pods are available, and
unhealthy old pods removed first. A pod is available once it was ready for the `minReadySeconds` of its ReplicaSet,
which is that of the Deployment for the newest one only. Time passes only when the test says so.

Every object that is written must fit the published schema of Kubernetes.
"""

from __future__ import annotations

import copy
import json
import math
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
_VALID: set[str] = set()  # shapes of pods that fit the schema


@dataclass
class Pod:
    """A pod; `ready_at` is None before it is ready.

    Attributes:
        name, version, created: of its metadata.
        started: when its server started; None if it did not start yet.
        ready_at: since when it is ready.
        restarts: how often its server was started again.
        end: the last `terminated` state of its server.
        attempts: how often its download was repeated.
        deleted: whether it is being deleted.
        evicted: whether the kubelet ended it, because its node was short of something.
    """

    name: str
    version: str
    created: float
    started: float | None = None
    ready_at: float | None = None
    restarts: int = 0
    end: Object = field(default_factory=dict)
    attempts: int = 0
    deleted: bool = False
    evicted: bool = False


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
        downloads: the exit code of the download and the last line of its log, for versions whose download fails.
        without_node: versions whose pods no node takes.
        waiting: the reason why the server of a version cannot be started, such as `ImagePullBackOff`.
        refused: versions whose pods the API does not accept, as by a quota.
        gone: pods that are listed though they do not count any more: evicted ones, and ones that are being deleted.
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
        self.downloads: dict[str, tuple[int, str]] = {"": (2, "wikigpt: models:/wikigpt/ names no version.")}
        self.without_node: set[str] = set()
        self.waiting: dict[str, str] = {}
        self.refused: set[str] = set()
        self.gone: list[Pod] = []
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

    def drain(self, version: str) -> None:
        """Deletes the pods of a version, as a drained node does; they stay in the list until their servers ended."""
        for each in self.sets:
            for pod in [pod for pod in each.pods if pod.version == version]:
                self._end(each, pod, deleted=True)

    def evict(self, version: str) -> None:
        """Ends the pods of a version, as a kubelet that is short of memory does; they stay in the list."""
        for each in self.sets:
            for pod in [pod for pod in each.pods if pod.version == version]:
                self._end(each, pod, evicted=True)

    def reboot(self, version: str) -> None:
        """Starts the nodes of a version again, as containerd reports it."""
        for pod in self.pods():
            if pod.version == version:
                self._restart(pod, {"exitCode": 255, "reason": "Unknown"})

    def gone_of(self, version: str) -> list[Pod]:
        return [pod for pod in self.gone if pod.version == version]

    def unready(self, version: str) -> None:
        """Lets the probe of the pods of a version fail once."""
        for pod in self.pods():
            if pod.version == version:
                pod.ready_at = None

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
            if pod.version in self.without_node or (pod.started is None and pod.version in self.waiting):
                continue
            if pod.started is None and pod.version in self.downloads:
                pod.attempts = int((self.now - pod.created) // 20)
            elif pod.started is None:
                pod.started = self.now
            elif pod.ready_at is None and pod.version not in self.broken:
                pod.ready_at = self.now if self.now >= pod.started + self.start_seconds - 1 else None
            elif pod.ready_at is not None and self.now >= pod.ready_at + self.crashing.get(pod.version, 1e18):
                self._restart(pod, {"exitCode": 1, "reason": "Error", "message": "RuntimeError: no kernel"})

    def _restart(self, pod: Pod, end: Object) -> None:
        pod.ready_at, pod.started, pod.restarts, pod.end = None, self.now, pod.restarts + 1, end

    def _end(self, each: ReplicaSet, pod: Pod, *, deleted: bool = False, evicted: bool = False) -> None:
        pod.deleted, pod.evicted = deleted, evicted
        each.pods.remove(pod)
        self.gone.append(pod)

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
            while len(each.pods) < each.replicas and each.version not in self.refused:
                self.names += 1
                each.pods.append(Pod(f"{NAME}-{each.version}-{self.names}", each.version, self.now))
            # Pods that are not ready are deleted first, then the youngest.
            each.pods.sort(key=lambda pod: (pod.ready_at is None, pod.created))
            for pod in each.pods[each.replicas :]:
                self._end(each, pod, deleted=True)
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
        least = wanted - _count(strategy["maxUnavailable"], wanted)
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
            "items": [_pod(world, pod) for pod in [*world.pods(), *world.gone]],
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


def _count(value: int | str, wanted: int) -> int:
    """A number of pods that may be unavailable, of which a percentage is rounded down."""
    return math.floor(int(value.removesuffix("%")) / 100 * wanted) if isinstance(value, str) else value


def _pod(world: World, pod: Pod) -> Object:
    """A pod as the API shows it; `status` follows the documentation of the life of a pod."""
    metadata = {"name": pod.name, "namespace": NAMESPACE, "labels": LABELS, "creationTimestamp": _time(pod.created)}
    if pod.version:
        metadata["annotations"] = {VERSION: pod.version}
    if pod.deleted:
        metadata["deletionTimestamp"] = _time(world.now)
    shown = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "server", "image": "example/engine:1"}]},
        "status": _status(world, pod),
    }
    if (shape := _shape(shown)) not in _VALID:  # a validation takes a while, and there are few shapes
        kubernetes_validate.validate(shown, _SCHEMA, strict=True)
        _VALID.add(shape)
    return shown


def _shape(node: Any) -> str:
    """The keys of an object, and of those in it."""
    if isinstance(node, dict):
        return "{" + ",".join(f"{key}:{_shape(each)}" for key, each in node.items()) + "}"
    return "[" + ",".join(map(_shape, node)) + "]" if isinstance(node, list) else ""


def _status(world: World, pod: Pod) -> Object:
    if pod.evicted:
        message = "The node was low on resource: memory."
        return {"phase": "Failed", "reason": "Evicted", "message": message}
    if pod.version in world.without_node:
        message = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        return {"phase": "Pending", "conditions": [condition]}
    conditions = [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": _time(pod.created)},
        {"type": "Ready", "status": str(pod.ready_at is not None)},
    ]
    return {
        "phase": "Pending" if pod.started is None else "Running",
        "podIP": world.address,
        "conditions": conditions,
        "initContainerStatuses": [_container("download", pod.attempts, **_download(world, pod))],
        "containerStatuses": [
            _container("server", pod.restarts, ready=pod.ready_at is not None, **_server(world, pod))
        ],
    }


def _container(name: str, restarts: int, *, ready: bool = False, **states: Object) -> Object:
    return {"name": name, "image": "x", "imageID": "x", "ready": ready, "restartCount": restarts, **states}


def _download(world: World, pod: Pod) -> Object:
    """A download that failed waits for its next attempt, and the last one is in `lastState`."""
    if pod.started is not None or pod.version not in world.downloads:
        return {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    code, message = world.downloads[pod.version]
    ended = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
    return (
        {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended} if pod.attempts else {"state": ended}
    )


def _server(world: World, pod: Pod) -> Object:
    if pod.started is None:
        return {"state": {"waiting": {"reason": world.waiting.get(pod.version, "PodInitializing")}}}
    last = {"lastState": {"terminated": pod.end}} if pod.end else {}
    return {"state": {"running": {"startedAt": _time(pod.started)}}, **last}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
