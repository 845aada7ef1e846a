"""The record of a rollout in the Deployment: read and written only while this process holds the Lease."""

from __future__ import annotations

from typing import Any

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.deployment import Deployment
from pipelines.serving.lease import Lease
from pipelines.serving.rollout_state import LIVE, ROLLOUT, Live, Rollout
from pipelines.serving.serving_cluster import Conflict, ServingCluster

_ATTEMPTS = 20


class RolloutRecord:
    """The record of the rollout of one Deployment.

    Args:
        cluster: the access to the Deployment.
        lease: the Lease, which this process holds.
    """

    def __init__(self, cluster: ServingCluster, lease: Lease):
        self._cluster, self._lease = cluster, lease

    def look(self, expected: Rollout) -> Deployment:
        """Reads the Deployment, whose record must be as this process left it.

        Raises:
            Failure: another process changed the record, or has taken the Lease.
        """
        self._lease.renew()
        seen = self._cluster.deployment()
        if seen.rollout != expected:
            raise Failure(
                "Another process changed the rollout",
                where=f"annotation {ROLLOUT} of Deployment {self._cluster.name}",
                remedy="run again, which resumes the rollout",
                exit_code=ExitCode.CANCELLED,
            )
        return seen

    def write(
        self,
        expected: Rollout,
        rollout: Rollout | None,
        spec: dict[str, Any] | None = None,
        live: Live | None = None,
    ) -> None:
        """Replaces the record, together with changes of the Deployment.

        Args:
            expected: the record as this process left it.
            rollout: the new record; None ends the rollout.
            spec: the fields of the Deployment's `spec` that change.
            live: the version that is live now, if it changed.

        Raises:
            Failure: see `look`; or somebody else changes the Deployment all the time.
        """
        annotations = {ROLLOUT: rollout.to_text() if rollout else None}
        for _ in range(_ATTEMPTS):
            seen = self.look(expected)
            try:
                self._cluster.patch(seen, {**annotations, **({LIVE: live.to_text()} if live else {})}, spec)
                return
            except Conflict:  # its controller writes the status all the time
                continue
        raise Failure(
            f"The Deployment changed {_ATTEMPTS} times while it was to be changed",
            where=f"Deployment {self._cluster.name} in namespace {self._cluster.namespace}",
            remedy="run again",
            exit_code=ExitCode.UNREACHABLE,
        )
