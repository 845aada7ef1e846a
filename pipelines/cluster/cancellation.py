"""Ends the heartbeat and the MLflow run of a cancelled run: Kubeflow Pipelines does not run its exit handler.

Otherwise the MLflow run is RUNNING until the next run marks it KILLED, and the same run, submitted again, waits until
the heartbeat is stale.
"""

from __future__ import annotations

import os

from components.shared.base.events import notes_on_stderr
from components.shared.base.failure import Failure

_NEEDED = ("WIKIGPT_STORE", "MLFLOW_TRACKING_URI")


def close_run(run_id: str) -> str | None:
    """Runs the notify step that the exit handler of a cancelled run would have run.

    Args:
        run_id: the ID of the run, which must be over: a step that still runs would write its heartbeat again.

    Returns:
        Why the heartbeat and the MLflow run stay open and until when, or None if both were ended.
    """
    from components.notify.run import run
    from components.shared.runtime.step import Step

    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if not missing:
        handler = Step("notify", run_id, {"notify": {}})
        try:
            with notes_on_stderr():
                handler.store, handler.tracking  # noqa: B018 -- opened here, so that an unreachable server is known
                run(handler, {"state": "CANCELED", "error_code": 0, "error_message": ""})
            return None
        except Failure as failure:
            why = str(failure)
    else:
        why = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set here."
    return (
        f"The heartbeat and the MLflow run of {run_id} stay open: {why} The next run marks it KILLED; the same run,"
        " started again, waits up to three minutes."
    )
