"""The lock on one registered model: only one run or command at a time creates its versions and moves its aliases.

MLflow does not refuse a second version of the same weights, and cannot move an alias on a condition. So a process that
does either holds the lock, and checks before each write that it still holds it.
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
    """Returns the lock on a registered model. It is held for seconds only: everything slow is done before."""
    return Lock(
        store,
        f"registry/{model}",
        alive=partial(_is_alive, store),
        doing=f"changing the versions of {model}",
        remedy="wait for that run or end it, then run again",
    )


def owner_of_command(command: str, user: str) -> str:
    """Returns the owner name of a command. It has no heartbeat, so others wait for the lock of a killed command."""
    return f"{_COMMAND}{command} ({user}, {secrets.token_hex(3)})"


def fenced(client: MlflowClient, check: Callable[[], None]) -> MlflowClient:
    """Returns the client wrapped so that it calls `check` before every write."""
    return cast("MlflowClient", _Fenced(client, check))


def register_once(
    client: MlflowClient, check: Callable[[], None], model: str, weights_digest: str, make: Callable[[], str]
) -> str:
    """Returns the version that has these weights, or creates one.

    A run that pauses while it creates a version may lose the lock, and then leaves a second version of the same
    weights. That version is ignored, since it is incomplete and has a higher number. It is deleted here, by that run
    when it continues or by the next run.

    Args:
        client: a client of the registry, not fenced.
        check: a function that raises a failure unless the lock on the model is still held.
        model: the name of the registered model.
        weights_digest: the digest of the weights.
        make: a function that registers a new version and returns its number.

    Returns:
        The number of the version.

    Raises:
        Failure: the lock was lost.
    """
    found = registry.versions_of(client, model, weights_digest)
    if not found:
        check()
        created = make()
        existing = registry.version_of(client, model, weights_digest)
        if existing is None or str(existing.version) == created:
            return created
        client.delete_model_version(model, created)
        return str(existing.version)
    for duplicate in found[1:]:
        if not registry.is_complete(duplicate) and not client.get_model_version(model, duplicate.version).aliases:
            check()
            client.delete_model_version(model, duplicate.version)
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
