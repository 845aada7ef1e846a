"""The lock on a training: two runs never train the same model at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from components.shared.runtime.liveness import wait_until_known
from components.shared.storage.lock import Lock, locks
from components.shared.storage.store import Store

_PREFIX = "training/"


def training_lock(store: Store, model_key: str) -> Lock:
    """The lock on the training of a model key."""
    return Lock(
        store,
        f"{_PREFIX}{model_key}",
        alive=partial(wait_until_known, store),
        doing="training exactly this",
        remedy="wait until it has ended, or cancel it; then run again to reuse its model",
    )


def trainings(store: Store) -> Iterator[tuple[str, str]]:
    """The model key and the run of every training whose lock is not released, even if its run is dead."""
    for name, run in locks(store, _PREFIX):
        yield name.removeprefix(_PREFIX), run
