"""The lease on a training: two runs never make the same weights at the same time.

Its holders are claims of ascending number, each made exactly once; the last one counts. So of several runs that find a
holder dead only one takes over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from components.shared.events import emit
from components.shared.failure import Failure
from components.shared.liveness import observe
from components.shared.storage.store import Store

_PREFIX = "training/"


@contextmanager
def lease(store: Store, fingerprint: str, pipeline_run: str) -> Iterator[None]:
    """Holds the lease for the length of the block; that of a dead run is taken over.

    Raises:
        Failure: another run that lives trains this fingerprint.
    """
    while True:
        number, before = _last(store, fingerprint)
        if before == pipeline_run:
            break
        _refuse_if_alive(store, fingerprint, before)
        mine = {"run": pipeline_run}
        if store.claim(f"{_prefix(fingerprint)}{number + 1:06d}", mine) == mine:
            if before:
                emit("note", text=f"The run {before} that trained this is dead: its training is taken over")
            break
    try:
        yield
    finally:
        if _last(store, fingerprint)[1] == pipeline_run:
            for name in store.claims(_prefix(fingerprint)):
                store.release(name)


def check_lease(store: Store, fingerprint: str, pipeline_run: str) -> None:
    """Looks whether the lease is still ours.

    Raises:
        Failure: another run took this one for dead.
    """
    holder = _last(store, fingerprint)[1]
    if holder not in (None, pipeline_run):
        raise _taken(store, fingerprint, holder)


def refuse_a_second_training(store: Store, fingerprint: str, pipeline_run: str) -> None:
    """Looks whether the lease can be had.

    Raises:
        Failure: another run that lives trains this fingerprint.
    """
    holder = _last(store, fingerprint)[1]
    if holder != pipeline_run:
        _refuse_if_alive(store, fingerprint, holder)


def leases(store: Store) -> Iterator[tuple[str, str]]:
    """The fingerprint and the run of every lease that was given and not released, also to runs that are dead."""
    for name in store.claims(_PREFIX):
        if record := store.claimed(name):
            yield name.removeprefix(_PREFIX).partition("/")[0], record["run"]


def _prefix(fingerprint: str) -> str:
    return f"{_PREFIX}{fingerprint}/"


def _last(store: Store, fingerprint: str) -> tuple[int, str | None]:
    """The number and the run of the last holder, alive or dead; -1 and None where there is none."""
    names = store.claims(_prefix(fingerprint))
    if not names:
        return -1, None
    record = store.claimed(names[-1])
    return int(names[-1].rpartition("/")[2]), record["run"] if record else None


def _refuse_if_alive(store: Store, fingerprint: str, holder: str | None) -> None:
    if holder and observe(store, holder):
        raise _taken(store, fingerprint, holder)


def _taken(store: Store, fingerprint: str, holder: str | None) -> Failure:
    return Failure(
        f"The run {holder} is training exactly this already (fingerprint {fingerprint[:12]}…)",
        where=store.uri,
        remedy="wait until it has ended, or cancel it; then run again to use what it made",
    )
