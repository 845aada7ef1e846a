"""Prints the progress of a run on the terminal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.inspection import inspect
from pipelines.cluster.wait import require_success, wait

if TYPE_CHECKING:
    from pipelines.cluster.connection import Cluster
    from pipelines.cluster.runs import RunStatus


def follow(cluster: Cluster, run_id: str, timeout: float | None) -> None:
    """Waits for a run and prints each change of the state of a step.

    Raises:
        Failure: it failed, was cancelled, or took too long.
    """
    printed: dict[str, str] = {}

    def print_changes(status: RunStatus) -> None:
        for step in status.steps:
            if printed.get(step.name, "not started") != step.state:
                typer.echo(f"{step.name}: {step.state}", err=True)
            printed[step.name] = step.state

    try:
        ended = wait(cluster, run_id, limit=timeout, on_status=print_changes)
        if ended.state == "FAILED":
            with suppress(Failure):
                ended, _ = inspect(cluster, run_id)
        require_success(ended)
    except KeyboardInterrupt:
        raise Failure(
            "Stopped waiting; the run continues",
            where=f"run {run_id}",
            remedy=f"see `wikigpt status {run_id}`, or cancel it by `wikigpt cancel {run_id}`",
            exit_code=ExitCode.CTRL_C,
        ) from None
