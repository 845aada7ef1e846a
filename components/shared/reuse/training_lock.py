"""The lock on a training: two runs never train the same model at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from components.shared.runtime.liveness import observe
from components.shared.storage.lock import Lock, locks
from components.shared.storage.store import Store

_PREFIX = "training/"


def training_lock(store: Store, reuse_key: str) -> Lock:
    """The lock on the training of a reuse key."""
    return Lock(
        store,
        f"{_PREFIX}{reuse_key}",
        alive=partial(observe, store),
        doing="training exactly this",
        remedy="wait until it has ended, or cancel it; then run again to reuse its model",
    )


def trainings(store: Store) -> Iterator[tuple[str, str]]:
    """The reuse key and the run of every training whose lock is not released, even if its run is dead."""
    for name, run in locks(store, _PREFIX):
        yield name.removeprefix(_PREFIX), run
