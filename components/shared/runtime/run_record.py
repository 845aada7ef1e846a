"""The project's own record of a pipeline run, in the store: what each step began, published, and failed of.

How a run ended is concluded from here. What an orchestrator says of it is a hint: it may know a run only by pods.
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
        state: `running` also where the attempt was killed and nobody could record its end.
        began: seconds since the epoch.
        published: what the step found out that the notice needs: decision, registered version, address of a report.
        failure: why it failed, or None.
    """

    state: State
    began: float
    published: dict[str, Any] = field(default_factory=dict)
    failure: Failure | None = None


def record_start(store: Store, run: str, step: str) -> None:
    """Records that an attempt of a step began; what an earlier attempt left is overwritten."""
    _write(store, run, step, {"state": "running", "began": time.time()})


def record_finish(store: Store, run: str, step: str, published: dict[str, Any]) -> None:
    """Records that a step finished, with what it published."""
    _write(store, run, step, {**_began(store, run, step), "state": "finished", "published": published})


def record_failure(store: Store, run: str, step: str, failure: Failure, published: dict[str, Any]) -> None:
    """Records why a step failed, with what it published until then."""
    record = {"state": "failed", "failure": failure.to_dict(), "published": published}
    _write(store, run, step, {**_began(store, run, step), **record})


def read_record(store: Store, run: str) -> dict[str, StepRecord]:
    """Every step of a run that began, by its name."""
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
    """Keeps what a step printed, for whoever asks after its pod is gone."""
    store.put_record(f"{LOGS}{run}/{step}", {"text": text})


def read_log(store: Store, run: str, step: str) -> str | None:
    """What a step printed, or None where nothing was kept."""
    written = store.claimed(f"{LOGS}{run}/{step}")
    return written["text"] if written else None


def _write(store: Store, run: str, step: str, record: dict[str, Any]) -> None:
    store.put_record(f"{PREFIX}{run}/{step}", record)


def _began(store: Store, run: str, step: str) -> dict[str, Any]:
    return {"began": (store.claimed(f"{PREFIX}{run}/{step}") or {}).get("began", time.time())}
