"""Whether a version is at fault, by what Kubernetes says about its pods: the only place that decides it.

A version is at fault if its server ended or was slow to become ready, or if its files are there and cannot be used.
Everything else is trouble of the cluster or of the registry, and the rollout waits until it is over: a pod that is
missing, has no node, or whose server has not started, a node that was rebooted, a download without an answer.
"""

from __future__ import annotations

from collections.abc import Iterable

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.deployment import Deployment, Pod

_MOST_ATTEMPTS = 3  # downloads of a pod, of which the first may find the registry busy
_KILLED = 137  # of a process that was killed, as for too much memory
_AT_FAULT = (ExitCode.FAILED, _KILLED)  # of a download; the others are of the registry or of its settings


class Unfit(Exception):
    """The version must be taken back. The text says why, as the start of a sentence.

    Attributes:
        rejected: whether the version failed; False if it is only no longer wanted.
    """

    def __init__(self, reason: str, *, rejected: bool = True):
        super().__init__(reason)
        self.rejected = rejected


def ready(pods: Iterable[Pod], version: str) -> list[Pod]:
    """The pods of a version that get requests."""
    return [pod for pod in pods if pod.version == version and pod.ready and pod.address]


def require_fit(pods: Iterable[Pod], version: str) -> None:
    """Checks the pods of a version that is being rolled out.

    Args:
        pods: all pods.
        version: the number of the version.

    Raises:
        Unfit: a server of the version ended, or its files cannot be used.
        Failure: its files cannot be downloaded for a reason that is not the version's.
    """
    for pod in _of(pods, version):
        if pod.ended:
            raise Unfit(f"The server in pod {pod.name} was restarted{_colon(pod.trouble)}")
        if pod.download_code and pod.attempts >= _MOST_ATTEMPTS:
            raise _failed_download(pod, version)


def starting(pods: Iterable[Pod], version: str, now: float, seconds: float) -> bool:
    """Whether a server of the version runs, is not ready, and has still time to become ready."""
    return any(now < pod.started + seconds for pod in _of(pods, version) if pod.started and not pod.ready)


def delay_of(seen: Deployment, pods: Iterable[Pod], version: str, seconds: float) -> Unfit | Failure:
    """Why there is no further pod of the version that is ready, after a wait of so many seconds."""
    missing = [pod for pod in _of(pods, version) if not pod.ready]
    if slow := [pod for pod in missing if pod.started]:
        return Unfit(f"Its next pod was not ready within {seconds:g} s{_colon(slow[0].trouble)}")
    if failing := [pod for pod in missing if pod.download_code]:
        return _failed_download(failing[0], version)
    trouble = next((pod.trouble for pod in missing if pod.trouble), "")
    if not missing:
        what = f"Kubernetes makes no further pod of version {version}"
    elif any(pod.unscheduled for pod in missing):
        what = f"There is no room for the next pod of version {version}"
    else:
        what = f"The server in the next pod of version {version} has not started"
    return Failure(
        what + _colon(trouble),
        where=f"Deployment {seen.name}",
        remedy="look at it by `kubectl describe`, quotas and room for one pod more included; the next run waits again",
        exit_code=ExitCode.TIMED_OUT,
    )


def _failed_download(pod: Pod, version: str) -> Unfit | Failure:
    if pod.download_code in _AT_FAULT:
        return Unfit(f"Pod {pod.name} cannot get the files of the version{_colon(pod.trouble)}")
    return Failure(
        f"Pod {pod.name} cannot download version {version}{_colon(pod.trouble)}",
        where=f"container download of pod {pod.name}",
        remedy="correct that; the pod tries again by itself, and the next run goes on",
        exit_code=ExitCode(pod.download_code) if pod.download_code in list(ExitCode) else ExitCode.FAILED,
    )


def _of(pods: Iterable[Pod], version: str) -> list[Pod]:
    return [pod for pod in pods if pod.version == version]


def _colon(trouble: str) -> str:
    return f": {trouble}" if trouble else ""
