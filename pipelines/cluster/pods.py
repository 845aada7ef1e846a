"""The pods of a run, where Kubernetes lets us see them: why one waits, what one printed.

Kubeflow Pipelines tells neither (kubeflow/pipelines#14007), so this asks Kubernetes, as far as the kubeconfig or the
service account of this pod reaches. It is an extra: whatever goes wrong here becomes a note, never a failure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pipelines.cluster.runs import RunStatus, StepStatus

if TYPE_CHECKING:
    from pipelines.cluster.access import Access

RUN_LABEL = "pipeline/runid"
STEP_LABEL = "app.kubernetes.io/component"
_MAIN = "main"
_TIMEOUT = (5.0, 30.0)
_WAITING = {
    "ErrImagePull": "its image cannot be pulled",
    "ImagePullBackOff": "its image cannot be pulled",
    "InvalidImageName": "the name of its image is wrong",
    "CreateContainerConfigError": "a Secret or a ConfigMap that it needs is missing",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be started",
    "CrashLoopBackOff": "its container keeps failing",
}
_ENDED = {
    "OOMKilled": "killed for its memory: it reached the limit",
    "DeadlineExceeded": "ended by its time-out",
    "Evicted": "evicted from its node",
    "Preempted": "preempted by a pod of higher priority",
}


@dataclass(frozen=True)
class Pods:
    """Pods of a run by step, oldest first.

    Attributes:
        by_step: Kubernetes' pods.
        note: why nothing could be seen, or what a driver of Kubeflow Pipelines waits for; None where all is plain.
        api: Kubernetes' API, None where it cannot be reached.
        namespace: of the pods.
    """

    by_step: dict[str, list[Any]] = field(default_factory=dict)
    note: str | None = None
    api: Any = None
    namespace: str = "kubeflow"

    def log(self, step: str) -> str | None:
        """What the newest pod of a step printed; None where it is gone or tells nothing."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        for pod in reversed(self.by_step.get(step, [])):
            try:
                return self.api.read_namespaced_pod_log(
                    pod.metadata.name, self.namespace, container=_MAIN, _request_timeout=_TIMEOUT
                )
            except (ApiException, HTTPError):
                continue
        return None


def look_at_pods(access: Access, run_id: str) -> Pods:
    """The pods of a run."""
    from kubernetes import client, config
    from urllib3.exceptions import HTTPError

    settings, namespace = client.Configuration(), access.namespace or "kubeflow"
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        try:
            config.load_kube_config(client_configuration=settings, context=access.kube_context)
        except config.ConfigException:
            return Pods(note="no kubeconfig is here, so the pods cannot be seen")
    settings.retries = 1
    api = client.CoreV1Api(client.ApiClient(settings))
    try:
        listed = api.list_namespaced_pod(
            namespace, label_selector=f"{RUN_LABEL}={run_id}", _request_timeout=_TIMEOUT
        ).items
    except client.ApiException as error:
        return Pods(note=f"Kubernetes does not show the pods of {namespace}: {error.status} {error.reason}")
    except HTTPError:
        return Pods(note=f"Kubernetes cannot be reached at {settings.host}, so the pods cannot be seen")
    by_step: dict[str, list[Any]] = {}
    for pod in sorted(listed, key=lambda pod: pod.metadata.creation_timestamp):
        by_step.setdefault((pod.metadata.labels or {}).get(STEP_LABEL, ""), []).append(pod)
    return Pods(by_step, _driver_note(by_step.pop("", [])), api, namespace)


def explain(status: RunStatus, pods: Pods) -> RunStatus:
    """The status with the reasons that the pods tell."""
    return replace(status, steps=tuple(_explain(step, pods.by_step.get(step.name, [])) for step in status.steps))


def reason(pod: Any) -> str | None:
    """Why a pod waits or has failed, in words; None where it runs or has ended well."""
    status = pod.status
    if status.reason in _ENDED:
        return _sentence(_ENDED[status.reason], status.message)
    for condition in status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return _sentence("no node takes it", condition.message)
    for container in [*(status.init_container_statuses or ()), *(status.container_statuses or ())]:
        waiting, ended = container.state.waiting, container.state.terminated
        if waiting and waiting.reason in _WAITING:
            return _sentence(_WAITING[waiting.reason], waiting.message)
        if ended and ended.exit_code:
            words = _ENDED.get(ended.reason, f"container {container.name} ended with exit code {ended.exit_code}")
            return _sentence(words, ended.message)
    return "its container is being made" if status.phase == "Pending" else None


def _driver_note(pods: list[Any]) -> str | None:
    """What the newest pod waits for that is no step's: before each step a driver of Kubeflow Pipelines runs."""
    waits = reason(pods[-1]) if pods and pods[-1].status.phase == "Pending" else None
    return f"the driver pod {pods[-1].metadata.name} waits: {waits}" if waits else None


def _explain(step: StepStatus, pods: list[Any]) -> StepStatus:
    if step.reason or not pods or step.state in ("succeeded", "skipped", "canceled"):
        return step
    waits = pods[-1].status.phase == "Pending"
    return replace(step, state="pending" if waits else step.state, reason=reason(pods[-1]))


def _sentence(words: str, message: str | None) -> str:
    return f"{words}: {' '.join(message.split()).rstrip('.')}" if message else words
