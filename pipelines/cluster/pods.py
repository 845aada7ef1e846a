"""The pods of a run, if Kubernetes is accessible: why they wait or failed, and their logs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipelines.cluster.kube import Kubernetes, NotVisible
from pipelines.cluster.runs import RunStatus, StepStatus

if TYPE_CHECKING:
    from pipelines.cluster.access import Access

STEP_LABEL = "app.kubernetes.io/component"
_WAITING = {
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "InvalidImageName": "the name of its image is wrong",
    "CreateContainerConfigError": "a Secret or a ConfigMap that it needs is missing",
    "CreateContainerError": "its container cannot be created",
    "RunContainerError": "its container cannot be started",
    "CrashLoopBackOff": "its container keeps failing",
}
_ENDED = {
    "OOMKilled": "killed because it reached its memory limit",
    "DeadlineExceeded": "stopped by its time-out",
    "Evicted": "evicted from its node",
    "Preempted": "preempted by a pod of higher priority",
}
_UNSCHEDULED = {"SchedulingGated": "it waits in its queue"}
_TERMINATED = "ended by a signal (exit code 143): its pod was deleted, or the run was cancelled"
# Argo's messages about the end of a pod, such as `main: OOMKilled (exit code 1)`. They are kept longer than the pod.
_ARGO = (
    (re.compile(r"OOMKilled"), _ENDED["OOMKilled"]),
    (re.compile(r"longer than the specified deadline"), _ENDED["DeadlineExceeded"]),
    (re.compile(r"evicted|low on resource", re.IGNORECASE), _ENDED["Evicted"]),
    (re.compile(r"pod deleted"), "its pod was deleted"),
    (re.compile(r"exit code 143"), _TERMINATED),
    (re.compile(r"is invalid: (?P<why>.*)"), "Kubernetes refuses its pod: {why}"),
)


@dataclass(frozen=True)
class Pods:
    """Pods of a run by step, oldest first.

    Attributes:
        run_id: the ID of the run.
        by_step: the pods by step.
        note: the reason why pods cannot be listed, or why a driver of Kubeflow Pipelines waits; otherwise None.
        kubernetes: the access to Kubernetes; None if it cannot be reached.
    """

    run_id: str
    by_step: dict[str, list[Any]] = field(default_factory=dict)
    note: str | None = None
    kubernetes: Kubernetes | None = None

    def log(self, step: str) -> str | None:
        """The log of the newest pod of a step; None if it does not exist or cannot be read."""
        for pod in reversed(self.by_step.get(step, [])):
            try:
                if self.kubernetes and (text := self.kubernetes.log(pod.metadata.name)) is not None:
                    return text
            except NotVisible:
                continue
        return None

    def end_of(self, step: str) -> str | None:
        """Why the last pod of a step failed, from the workflow, which is kept longer than pods."""
        name = re.compile(rf"\.{re.escape(step)}(\(\d+\))?\.executor(\(\d+\))?")
        nodes = [node for node in self._nodes if node.get("type") == "Pod" and name.search(node.get("name", ""))]
        newest = max(nodes, key=lambda node: node.get("startedAt") or "", default={})
        return reason_of_node(newest.get("message"))

    @cached_property
    def _nodes(self) -> list[dict[str, Any]]:
        try:
            return self.kubernetes.workflow_nodes(self.run_id) if self.kubernetes else []
        except NotVisible:
            return []


def list_pods(access: Access, run_id: str) -> Pods:
    """The pods of a run."""
    try:
        kubernetes = Kubernetes(access)
        listed = kubernetes.pods(run_id)
    except NotVisible as not_visible:
        return Pods(run_id, note=f"{not_visible}, so the pods cannot be listed")
    by_step: dict[str, list[Any]] = {}
    for pod in listed:
        by_step.setdefault((pod.metadata.labels or {}).get(STEP_LABEL, ""), []).append(pod)
    return Pods(run_id, by_step, _driver_note(by_step.pop("", [])), kubernetes)


def explain(status: RunStatus, pods: Pods) -> RunStatus:
    """Adds the reasons from the pods to a status."""
    return replace(status, steps=tuple(_explain(step, pods) for step in status.steps))


def reason(pod: Any) -> str | None:
    """Why a pod waits or failed, as a phrase; None if it runs or succeeded."""
    status = pod.status
    if status.reason in _ENDED:
        return _sentence(_ENDED[status.reason], status.message)
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return _sentence(_UNSCHEDULED.get(condition.reason, "no node can run it"), condition.message)
    for container in [*(status.init_container_statuses or ()), *(status.container_statuses or ())]:
        waiting, ended = container.state.waiting, container.state.terminated
        if waiting and waiting.reason in _WAITING:
            return _sentence(_WAITING[waiting.reason], waiting.message)
        if ended and ended.exit_code:
            return _sentence(_ended(container.name, ended), ended.message)
    return "its container is being created" if status.phase == "Pending" else None


def reason_of_node(message: str | None) -> str | None:
    """The meaning of the workflow's message about a pod; None if there is none or it names only an exit code."""
    for pattern, words in _ARGO:
        if message and (match := pattern.search(message)):
            return words.format(**match.groupdict())
    return None


def is_exit_code_only(reason: str | None) -> bool:
    """Whether a reason is only an exit code, so that the failure in the log says more."""
    return reason is None or reason.startswith("container ")


def _ended(container: str, ended: Any) -> str:
    if ended.reason in _ENDED:
        return _ENDED[ended.reason]
    return _TERMINATED if ended.exit_code == 143 else f"container {container} ended with exit code {ended.exit_code}"


def _driver_note(pods: list[Any]) -> str | None:
    """What the newest driver pod waits for: Kubeflow Pipelines runs a driver before each step."""
    waits = reason(pods[-1]) if pods and pods[-1].status.phase == "Pending" else None
    return f"the driver pod {pods[-1].metadata.name} waits: {waits}" if waits else None


def _explain(step: StepStatus, pods: Pods) -> StepStatus:
    if step.reason or step.state not in ("running", "pending", "failed", "not finished"):
        return step
    if not (own := pods.by_step.get(step.name)):
        return replace(step, reason=pods.end_of(step.name) if step.state == "failed" else None)
    waits = step.state == "running" and own[-1].status.phase == "Pending"
    return replace(step, state="pending" if waits else step.state, reason=reason(own[-1]))


def _sentence(words: str, message: str | None) -> str:
    return f"{words}: {' '.join(message.split()).rstrip('.')}" if message else words
