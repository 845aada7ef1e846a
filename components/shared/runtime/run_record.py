"""The record of a pipeline run in the store: the start, the findings and the failure of each step.

The outcome of a run is derived from this record. The status of an orchestrator is only a hint, because it may know
a run only by its pods.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from components.shared.base.failure import Failure
from components.shared.storage.store import Store

State = Literal["running", "finished", "failed"]
PREFIX = "steps/"
LOGS = "logs/"


@dataclass(frozen=True)
class StepRecord:
    """The last attempt of one step.

    Attributes:
        state: the state; it is still `running` if the attempt was killed before it could record its end.
        began: seconds since the epoch.
        findings: the values that the step reports to the notification: decision, version, address of a report.
        failure: the failure that ended the attempt, or None.
    """

    state: State
    began: float
    findings: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


def record_start(store: Store, run: str, step: str) -> None:
    """Records that an attempt of a step began, and overwrites the record of an earlier attempt."""
    _write(store, run, step, {"state": "running", "began": time.time()})


def record_finish(store: Store, run: str, step: str, findings: dict[str, Any]) -> None:
    """Records that a step finished, with its findings."""
    _write(store, run, step, {**_began(store, run, step), "state": "finished", "published": findings})


def record_failure(store: Store, run: str, step: str, failure: Failure, findings: dict[str, Any]) -> None:
    """Records the failure of a step, with its findings until then."""
    record = {"state": "failed", "failure": failure.to_dict(), "published": findings}
    _write(store, run, step, {**_began(store, run, step), **record})


def read_record(store: Store, run: str) -> dict[str, StepRecord]:
    """The records of all steps of a run that began, by step name."""
    found = {}
    for name in store.claims(f"{PREFIX}{run}/"):
        if written := store.claimed(name):
            failure = written.get("failure")
            found[name.rpartition("/")[2]] = StepRecord(
                written["state"],
                written["began"],
                written.get("published", {}),
                Failure.from_dict(failure) if failure else None,
            )
    return found


def write_log(store: Store, run: str, step: str, text: str) -> None:
    """Stores the output of a step, so that it can be read after its pod is gone."""
    store.put_record(f"{LOGS}{run}/{step}", {"text": text})


def read_log(store: Store, run: str, step: str) -> str | None:
    """The output of a step, or None if none was stored."""
    written = store.claimed(f"{LOGS}{run}/{step}")
    return written["text"] if written else None


def _write(store: Store, run: str, step: str, record: dict[str, Any]) -> None:
    store.put_record(f"{PREFIX}{run}/{step}", record)


def _began(store: Store, run: str, step: str) -> dict[str, Any]:
    return {"began": (store.claimed(f"{PREFIX}{run}/{step}") or {}).get("began", time.time())}
