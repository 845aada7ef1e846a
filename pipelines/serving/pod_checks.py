"""The smoke test of a pod, asked by its own address, so that the answers are surely those of the new version."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from pipelines.local.ports import http_address
from pipelines.serving.deployment import Pod
from pipelines.serving.smoke import Expected, Limits, smoke_test

if TYPE_CHECKING:
    from mlflow import MlflowClient

PORT = 8000
_SECONDS = 5.0


def pod_tester(
    client: MlflowClient, model: str, limits: Limits, port: int = PORT
) -> Callable[[Pod, Pod | None, str, Callable[[], object]], str | None]:
    """Returns the test by which a rollout decides about a canary, see `pipelines.serving.rollout.Roller`.

    Args:
        client: a client of the registry, which has the completions that were recorded with a version.
        model: the name of the registered model.
        limits: what a server must keep.
        port: the port of the engine.
    """

    def test(new: Pod, old: Pod | None, version: str, between: Callable[[], object]) -> str | None:
        for pod in filter(None, (new, old)):
            _require_reachable(pod, port)
        known = client.get_model_version(model, version)
        try:
            expected = Expected.of(client, known)
        except Failure as damaged:
            return damaged.what
        before = http_address(old.address, port) if old else None
        problem = smoke_test(http_address(new.address, port), expected, limits, before=before, between=between).problem
        for pod in filter(None, (new, old) if problem else ()):
            _require_reachable(pod, port)  # a node that is gone says nothing against the version
        return problem

    return test


def _require_reachable(pod: Pod, port: int) -> None:
    """Kubernetes says that the pod is ready, so if it cannot be reached, that says nothing against its version."""
    try:
        socket.create_connection((pod.address, port), timeout=_SECONDS).close()
    except OSError as error:
        raise Failure(
            f"Pod {pod.name} is ready, and cannot be reached from here: {error}",
            where=f"{pod.address}:{port}",
            remedy="run the command in the cluster, as the CronJob of infra/serving does; the next run goes on",
            exit_code=ExitCode.UNREACHABLE,
        ) from error
