"""One version per fingerprint: who may register it is settled in the store, since MLflow takes duplicates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.failure import ExitCode, Failure
from components.shared.liveness import alive, heartbeat_of
from components.shared.registry import version_of
from components.shared.storage.store import Store

if TYPE_CHECKING:
    from mlflow import MlflowClient

_PAUSE = 0.5  # seconds


@dataclass(frozen=True)
class Claim:
    """The right to register a fingerprint, or the version that stands.

    Attributes:
        name: of the claim in the store.
        version: that is registered already; None gives the caller the right.
    """

    name: str
    version: str | None


def claim_version(
    store: Store, client: MlflowClient, model: str, fingerprint: str, pipeline_run: str, *, patience: float
) -> Claim:
    """Claims a fingerprint for a pipeline run, or finds its version.

    A claim is void when its version was deleted, or when its run died without a version. The successor of a void claim
    is a claim of its own, with the next number in its name, so that of several heirs exactly one gets it.

    Args:
        store: where claims stand.
        client: of the registry.
        model: the name of the registered model.
        fingerprint: of the training.
        pipeline_run: the identity of the caller's pipeline run; its retries own what it claimed.
        patience: seconds to wait for a living run that holds the claim.

    Raises:
        Failure: that run did not register within the time.
    """
    generation, deadline = 0, time.monotonic() + patience
    while True:
        name = f"versions/{model}/{fingerprint}" + (f".{generation}" if generation else "")
        record = store.claim(name, {"run": pipeline_run})
        ours, over = record["run"] == pipeline_run, "version" in record
        dead = not ours and not alive(heartbeat_of(store, record["run"]))
        # The registry is read after the claim: a claim that was over by then has its version there, or it was deleted.
        if found := version_of(client, model, fingerprint):
            return Claim(name, str(found.version))
        if over or dead:
            generation += 1
        elif ours:
            return Claim(name, None)
        elif time.monotonic() > deadline:
            raise Failure(
                f"Run {record['run']} lives and has claimed this fingerprint, but registers nothing",
                where=f"{store.uri}, claim {name}",
                remedy="wait for that run or end it, then run again",
                exit_code=ExitCode.TIMED_OUT,
            )
        else:
            time.sleep(_PAUSE)


def settle_claim(store: Store, claim: Claim, pipeline_run: str, version: str) -> None:
    """Writes the version into its claim; if somebody deletes the version later, the claim is void."""
    record = store.claimed(claim.name) or {"run": pipeline_run}
    store.put_record(claim.name, {**record, "version": version})
