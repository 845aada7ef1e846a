"""Takes back a version whose rollout failed: the alias, a tag with the reason, and a notice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from components.notify.settings import NotifySettings
from components.notify.webhook import deliver
from components.register.alias_move import return_champion
from components.shared.storage.store import Store
from components.shared.tracking import registry
from components.shared.tracking.accounts import own_name
from pipelines.registry.promotion import ROLLOUT_TAGS, locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.shared.tracking.sqlite_registry import AnyVersion

Notify = Callable[[dict[str, Any]], object]


def reject(
    client: MlflowClient,
    model: str,
    version: str,
    back_to: str | None,
    reason: str,
    store: Store | None,
    notify: Notify,
) -> None:
    """Records that a version cannot be served, and returns the alias champion to the version that is served.

    The alias is left alone if a person has moved it meanwhile. The gate never promotes the version again, only a
    person does. All of this may be repeated, as after a kill, and then a notice that was sent is not sent again.

    Args:
        client: a client of the registry.
        model: the name of the registered model.
        version: the number of the version that failed. It may have been deleted.
        back_to: the number of the version that is served; None if there is none. The alias stays then, so nobody can
            move it there again by a click, and `wikigpt promote` lifts the rejection.
        reason: why it failed, as a sentence without a full stop.
        store: the store with the lock on the registered model; None moves the alias without the lock.
        notify: a function that sends the notice, such as `send_notice`.

    Raises:
        Failure: the registry or the lock cannot be used. The version keeps its tag, so it is not wanted meanwhile.
    """
    with locked(client, store, model, "rollout") as held:
        exists = registry.has_version(held, model, version)
        if exists:
            _tag(held, model, version, back_to, reason, notify)
        elif back_to:
            notify(_notice(model, version, back_to, reason))
        if back_to:
            return_champion(held, model, version if exists else "", back_to, by=own_name(), reason=reason)
        champion = registry.version_with_alias(held, model, registry.CHAMPION)
        if exists and (champion is None or str(champion.version) != version):
            held.set_model_version_tag(model, version, registry.ROLLOUT_RETURNED, _now())


def is_rejected(version: AnyVersion) -> bool:
    """Whether the rollout of a version failed and no person has promoted it again since.

    A version that failed loses the alias. If it has the alias again, a person moved it there. If it never lost the
    alias, because no other version could be served, only `wikigpt promote` removes the record of the failure.
    """
    return registry.ROLLOUT_FAILED in version.tags and registry.ROLLOUT_RETURNED not in version.tags


def forget_rejection(client: MlflowClient, model: str, version: str) -> None:
    """Removes the record of an earlier failure, because the version is served now."""
    tags = client.get_model_version(model, version).tags
    for tag in (registry.ROLLED_BACK, *ROLLOUT_TAGS) if registry.ROLLOUT_FAILED in tags else ():
        if tag in tags:
            client.delete_model_version_tag(model, version, tag)


def send_notice(document: dict[str, Any]) -> None:
    """Sends a notice to the address in WIKIGPT_WEBHOOK, if there is one. An error is only a warning."""
    if address := os.environ.get(NotifySettings.webhook_variable):
        deliver(address, document, timeout=NotifySettings.timeout)


def _tag(client: MlflowClient, model: str, version: str, back_to: str | None, reason: str, notify: Notify) -> None:
    """Tags the version after the notice was sent, so that the tag says that it was."""
    known = client.get_model_version(model, version)
    if is_rejected(known):
        return
    notify(_notice(model, version, back_to, reason))
    client.set_model_version_tag(model, version, registry.ROLLED_BACK, f"{_now()} by its rollout: {reason}"[:5000])
    client.set_model_version_tag(model, version, registry.ROLLOUT_FAILED, reason[:5000])
    if registry.ROLLOUT_RETURNED in known.tags:  # of an earlier rollout
        client.delete_model_version_tag(model, version, registry.ROLLOUT_RETURNED)


def _notice(model: str, version: str, back_to: str | None, reason: str) -> dict[str, Any]:
    served = f"Version {back_to} goes on serving" if back_to else "No version is served; `wikigpt promote` tries again"
    return {
        "text": f"Version {version} of {model} failed its rollout: {reason}. {served}.",
        "ending": "rollout failed",
        "model": model,
        "version": version,
        "served": back_to,
        "reason": reason,
    }


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
