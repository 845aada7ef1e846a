"""The lease on a training: two runs never make the same weights at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from components.shared.events import emit
from components.shared.failure import Failure
from components.shared.liveness import alive, heartbeat_of
from components.shared.store import Store


@contextmanager
def lease(store: Store, fingerprint: str, pipeline_run: str) -> Iterator[None]:
    """Holds the lease for the length of the block; that of a dead run is taken over.

    Raises:
        Failure: another run that lives trains this fingerprint.
    """
    holder = store.claim(_name(fingerprint), {"run": pipeline_run})["run"]
    if holder != pipeline_run:
        if alive(heartbeat_of(store, holder)):
            raise _taken(holder, fingerprint, store)
        emit("note", text=f"The run {holder} that trained this is dead: its training is taken over")
        store.renew(_name(fingerprint), {"run": pipeline_run})
    try:
        yield
    finally:
        if store.claimed(_name(fingerprint)) == {"run": pipeline_run}:
            store.release(_name(fingerprint))


def check_lease(store: Store, fingerprint: str, pipeline_run: str) -> None:
    """Looks whether the lease is still ours.

    Raises:
        Failure: another run took this one for dead.
    """
    standing = store.claimed(_name(fingerprint))
    if standing and standing["run"] != pipeline_run:
        raise _taken(standing["run"], fingerprint, store)


def _name(fingerprint: str) -> str:
    return f"training/{fingerprint}"


def _taken(holder: str, fingerprint: str, store: Store) -> Failure:
    return Failure(
        f"The run {holder} is training exactly this already (fingerprint {fingerprint[:12]}…)",
        where=store.uri,
        remedy="wait until it has ended, or cancel it; then run again to use what it made",
    )
