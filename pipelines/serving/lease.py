"""The Lease by which one rollout of a Deployment excludes another, as controllers of Kubernetes elect their leader.

A process that holds it renews it. If the process was killed, the Lease expires, and the next one takes it. A clock that
is wrong by less than the length of the Lease does no harm: writes to the Deployment are conditional in any case.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.serving_cluster import Conflict, ServingCluster

SECONDS = 60  # after which the Lease of a killed process expires
_RENEW = 15.0  # seconds


class Busy(Exception):
    """Another rollout holds the Lease. The text names its holder."""


class Lease:
    """The Lease of one Deployment.

    Args:
        cluster: the access to the Deployment.
        clock: the time in seconds since 1970.
    """

    def __init__(self, cluster: ServingCluster, clock: Callable[[], float] = time.time):
        self._cluster, self._clock = cluster, clock
        self._me = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._lease: dict[str, Any] = {}
        self._renewed = 0.0

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the Lease for the length of the block.

        Raises:
            Busy: another process holds it.
            Failure: it does not exist, or must not be written.
        """
        lease = self._cluster.read_lease()
        spec = lease.get("spec") or {}
        if spec.get("holderIdentity") and self._clock() < _seconds(spec.get("renewTime")) + SECONDS:
            raise Busy(spec["holderIdentity"])
        try:
            self._write(lease)
        except Conflict:
            raise Busy("another process that took it at the same moment") from None
        try:
            yield
        finally:
            with suppress(Exception):  # it expires
                self._write(self._lease, release=True)

    def renew(self) -> None:
        """Renews the Lease if that is due.

        Raises:
            Failure: another process has taken it, because this one did not renew it in time.
        """
        if self._clock() < self._renewed + _RENEW:
            return
        try:
            self._write(self._lease)
        except Conflict:
            raise Failure(
                "Another rollout has taken over, because this one was suspended",
                where=f"Lease {self._cluster.name} in namespace {self._cluster.namespace}",
                remedy="follow the other one by `wikigpt rollout --status`",
                exit_code=ExitCode.CANCELLED,
            ) from None

    def _write(self, lease: dict[str, Any], *, release: bool = False) -> None:
        now = self._clock()
        spec = {
            **(lease.get("spec") or {}),
            "holderIdentity": "" if release else self._me,
            "leaseDurationSeconds": SECONDS,
            "renewTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        }
        self._lease = self._cluster.replace_lease({**lease, "spec": spec})
        self._renewed = now


def _seconds(renewed: str | None) -> float:
    return datetime.fromisoformat(renewed).timestamp() if renewed else 0.0
