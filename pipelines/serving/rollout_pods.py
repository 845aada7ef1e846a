"""What the pods of a new version say about it."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.serving.deployment import Pod

_MOST_ATTEMPTS = 3  # downloads of a pod, of which the first may find the registry busy


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
        Unfit: a server of the version was restarted, or its files cannot be had.
    """
    for pod in pods:
        trouble = f": {pod.trouble}" if pod.trouble else ""
        if pod.version == version and pod.restarts:
            raise Unfit(f"The server in pod {pod.name} was restarted{trouble}")
        if pod.version == version and pod.attempts >= _MOST_ATTEMPTS:
            raise Unfit(f"Pod {pod.name} cannot get the files of the version{trouble}")
