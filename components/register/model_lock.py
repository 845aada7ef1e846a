"""The lock on one registered model: its versions are made and its aliases moved by one run or command at a time.

MLflow neither refuses a second version of one model nor moves an alias on a condition. So a process that does either
holds the lock, and checks before each write that it still holds it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from components.shared.runtime.liveness import alive, heartbeat_of
from components.shared.storage.lock import Lock
from components.shared.storage.store import Store
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

_COMMAND = "wikigpt "
_WRITES = ("copy_", "create_", "delete_", "log_", "rename_", "set_", "update_")


def model_lock(store: Store, model: str) -> Lock:
    """The lock on a registered model. It is held for seconds: whatever takes long is done before."""
    return Lock(
        store,
        f"registry/{model}",
        alive=partial(_is_alive, store),
        doing=f"changing the versions of {model}",
        remedy="wait for that run or end it, then run again",
    )


def owner_of_command(command: str, user: str) -> str:
    """The name under which a person's command holds the lock; it has no heartbeat, so a killed one is waited for."""
    return f"{_COMMAND}{command} ({user}, {secrets.token_hex(3)})"


def fenced(client: MlflowClient, check: Callable[[], None]) -> MlflowClient:
    """The same client, which calls `check` (or `renew`) of the lock that is held before everything that writes."""
    return cast("MlflowClient", _Fenced(client, check))


def register_once(
    client: MlflowClient, check: Callable[[], None], model: str, weights_digest: str, make: Callable[[], str]
) -> str:
    """The version that has these weights, or a new one.

    A run that pauses while it creates a version, and is considered dead, leaves a second version of the same weights.
    That version is ignored, since it is incomplete and its number is higher, and it is deleted here: by that run when
    it continues, or by the next one.

    Args:
        client: of the registry, not fenced.
        check: whether the lock on the model is held still.
        model: the name of the registered model.
        weights_digest: of the version.
        make: registers a new one and gives its number.

    Returns:
        The number of the version.

    Raises:
        Failure: the lock was lost.
    """
    found = registry.versions_of(client, model, weights_digest)
    if not found:
        check()
        trained = make()
        counts = registry.version_of(client, model, weights_digest)
        if counts is None or str(counts.version) == trained:
            return trained
        client.delete_model_version(model, trained)
        return str(counts.version)
    for double in found[1:]:
        if not registry.is_complete(double) and not client.get_model_version(model, double.version).aliases:
            check()
            client.delete_model_version(model, double.version)
    return str(found[0].version)


def _is_alive(store: Store, owner: str) -> bool | None:
    return None if owner.startswith(_COMMAND) else alive(heartbeat_of(store, owner))


class _Fenced:
    def __init__(self, client: MlflowClient, check: Callable[[], None]):
        self._client, self._check = client, check

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._client, name)
        if not name.startswith(_WRITES):
            return value

        def write(*args: Any, **kwargs: Any) -> Any:
            self._check()
            return value(*args, **kwargs)

        return write
