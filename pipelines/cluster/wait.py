"""Waits for the end of a run, and cancels runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.runs import RunStatus, get_status

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster

PATIENCE = 600.0  # seconds
CANCEL_TIMEOUT = 30.0  # seconds


def wait(
    cluster: Cluster,
    run_id: str,
    *,
    limit: float | None = None,
    poll_seconds: float = 5.0,
    patience: float = PATIENCE,
    on_status: Callable[[RunStatus], None] = lambda _: None,
) -> RunStatus:
    """Waits until a run is over. (kfp's own waiter never ends on a cancelled run, kubeflow/pipelines#14473.)

    Args:
        cluster: the server.
        run_id: the ID of the run.
        limit: the maximum number of seconds to wait. The run continues after them.
        poll_seconds: the seconds between two requests.
        patience: the seconds for which the server may be unreachable.
        on_status: a function that is called with each status.

    Raises:
        Failure: the limit was reached, the run does not exist, or the server remains unreachable.
    """
    begun = reached = time.monotonic()
    while True:
        try:
            status, reached = get_status(cluster, run_id), time.monotonic()
        except Failure as failure:
            if failure.exit_code is not ExitCode.UNREACHABLE or time.monotonic() - reached > patience:
                raise
        else:
            on_status(status)
            if status.over:
                return status
        if limit is not None and time.monotonic() - begun > limit:
            raise Failure(
                f"The run is not over after {limit:g} s; it continues",
                where=f"run {run_id}",
                remedy=f"see `wikigpt status {run_id}`, or cancel it by `wikigpt cancel {run_id}`",
                exit_code=ExitCode.TIMED_OUT,
            )
        time.sleep(poll_seconds)


def wait_for_cancellation(cluster: Cluster, run_id: str) -> RunStatus:
    """Waits for the end of a run that is being cancelled, for three times as long as it usually takes."""
    try:
        return wait(cluster, run_id, limit=CANCEL_TIMEOUT, poll_seconds=1.0)
    except Failure as failure:
        if failure.exit_code is not ExitCode.TIMED_OUT:
            raise
        return get_status(cluster, run_id)


def require_success(status: RunStatus) -> None:
    """Raises a failure unless the run succeeded.

    Raises:
        Failure: the run failed or was cancelled.
    """
    if status.state == "CANCELED":
        raise Failure(
            "The run was cancelled",
            where=f"run {status.run_id}",
            remedy="submit it again; training resumes from its last checkpoint",
            exit_code=ExitCode.CANCELLED,
        )
    if status.state == "FAILED":
        failed = [step for step in status.steps if step.state == "failed"]
        places = " in " + " and ".join(step.name for step in failed) if failed else ""
        reasons = [reason for reason in (*(step.reason for step in failed), status.error) if reason]
        arguments = " ".join([status.run_id, *(step.name for step in failed[:1])])
        raise Failure(
            f"The run failed{places}{': ' + '; '.join(reasons) if reasons else ''}",
            where=f"run {status.run_id}",
            remedy=f"see `wikigpt logs {arguments}`, and the run's record in MLflow",
        )


def cancel(cluster: Cluster, run_id: str) -> RunStatus:
    """Cancels a run. Nothing happens if it is already cancelled.

    Raises:
        Failure: the run succeeded or failed, or does not exist.
    """
    status = get_status(cluster, run_id)
    if status.state in ("CANCELING", "CANCELED"):
        return status
    if status.over:
        raise Failure(
            f"The run is over: {status.state.lower()}",
            where=f"run {run_id}",
            remedy="there is nothing to cancel",
            exit_code=ExitCode.USAGE,
        )
    try:
        cluster.call_once(f"run {run_id}", cluster.client.runs.run_service_terminate_run, run_id=run_id)
    except Failure:
        if (after := get_status(cluster, run_id)).state not in ("CANCELING", "CANCELED"):
            raise
        return after
    return get_status(cluster, run_id)
