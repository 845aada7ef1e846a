"""Promotion by a person, and the way back: who, when and why is recorded on the version."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.register.model_lock import fenced, model_lock, owner_of_command
from components.register.promotion import APPROVAL, finish_move, move_champion
from components.shared.base.failure import ExitCode, Failure
from components.shared.report.measures import finite
from components.shared.storage.store import Store
from components.shared.tracking import registry
from pipelines.registry.references import model_name, resolve

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# Seconds to wait for a run or a command that changes the same model; longer than a dead one is taken for alive.
_PATIENCE = 240.0
_COPIED_FROM = "wikigpt.copied_from"
_PROMOTED = ("wikigpt.promoted_by", "wikigpt.promoted_at", "wikigpt.promoted_reason")


@dataclass(frozen=True)
class Moved:
    """What a promotion or a rollback did.

    Attributes:
        model: the registered model.
        version: that the alias champion stands on now.
        before: that it stood on, or None.
    """

    model: str
    version: str
    before: str | None


def promote(
    client: MlflowClient,
    reference: str,
    *,
    reason: str,
    model: str | None = None,
    to: str | None = None,
    store: Store | None = None,
) -> Moved:
    """Makes a version champion, here or as a copy in another registered model (another environment).

    Args:
        client: of the registry.
        reference: see `resolve`.
        reason: for the record, in the promoter's words.
        model: the name of the registered model, see `resolve`.
        to: the registered model to copy the version to; made where it does not exist, one copy per version.
        store: that the runs of this registry lock it in; None moves the alias without the lock.

    Raises:
        Failure: no reason, no such version, one that must not be champion, or a run that does not let go of the lock.
    """
    _require_reason(reason)
    version = resolve(client, reference, model)
    _refuse_unfit(version)
    with _locked(client, store, to or version.name, "promote") as client:
        if to is not None and to != version.name:
            version = _copy(client, version, to)
        return _promote(client, version, reason)


def _promote(client: MlflowClient, version: ModelVersion, reason: str) -> Moved:
    name, number = version.name, str(version.version)
    finish_move(client, name)
    champion = registry.version_with_alias(client, name, registry.CHAMPION)
    before = str(champion.version) if champion else None
    if before == number:
        return Moved(name, number, before)
    for tag, value in zip(_PROMOTED, _record(reason), strict=True):
        client.set_model_version_tag(name, number, tag, value)
    if before:
        client.set_model_version_tag(name, number, registry.CHAMPION_BEFORE, before)
    if registry.ROLLED_BACK in version.tags:
        client.delete_model_version_tag(name, number, registry.ROLLED_BACK)
    move_champion(client, name, number)
    return Moved(name, number, before)


def rollback(client: MlflowClient, *, reason: str, model: str | None = None, store: Store | None = None) -> Moved:
    """Gives the alias back to the champion before. The gate never promotes the version that lost it again.

    Args:
        client: of the registry.
        reason: for the record.
        model: the name of the registered model, see `model_name`.
        store: see `promote`.

    Raises:
        Failure: no reason, no champion, no champion before it that still exists, or a run that does not let go of the
            lock.
    """
    _require_reason(reason)
    name = model_name(client, model)
    with _locked(client, store, name, "rollback") as client:
        return _rollback(client, name, reason)


def _rollback(client: MlflowClient, name: str, reason: str) -> Moved:
    died = finish_move(client, name)
    if died and died.before and registry.ROLLED_BACK in client.get_model_version(name, died.before).tags:
        return Moved(name, died.version, died.before)  # a rollback was cut off, and this one repeats it
    champion = registry.version_with_alias(client, name, registry.CHAMPION)
    if champion is None:
        raise _impossible(f"{name} has no champion to roll back from", name)
    number, before = str(champion.version), _champion_before(client, champion)
    if before is None:
        raise _impossible(f"No champion before version {number} of {name} is on record", name)
    by, at, _ = _record(reason)
    client.set_model_version_tag(name, number, registry.ROLLED_BACK, f"{at} by {by}: {reason}"[:5000])
    move_champion(client, name, before)
    return Moved(name, before, number)


@contextmanager
def _locked(client: MlflowClient, store: Store | None, model: str, command: str) -> Iterator[MlflowClient]:
    """A client that writes only while no run and no other command changes the model, if there is a store to ask."""
    if store is None:
        yield client
        return
    owner = owner_of_command(command, _user())
    with model_lock(store, model).held(owner, patience=_PATIENCE) as held:
        yield fenced(client, held.renew)  # a command has no heartbeat


def _champion_before(client: MlflowClient, champion: ModelVersion) -> str | None:
    """By the record of our own moves; where a person moved the alias by a click, the one that stood there then."""
    name, number = champion.name, str(champion.version)
    versions = {str(version.version): version for version in registry.versions(client, name)}
    last = client.get_registered_model(name).tags.get(registry.LAST_CHAMPION)
    before = champion.tags.get(registry.CHAMPION_BEFORE) if last in (number, None) else last
    seen = {number}
    while before and before not in seen:
        seen.add(before)
        version = versions.get(before)
        if version is None:
            return None
        if registry.ROLLED_BACK not in version.tags:
            return before
        before = version.tags.get(registry.CHAMPION_BEFORE)
    return None


def _copy(client: MlflowClient, version: ModelVersion, to: str) -> ModelVersion:
    weights, address = version.tags.get(registry.WEIGHTS_DIGEST), f"models:/{version.name}/{version.version}"
    copy = (weights and registry.version_of(client, to, weights)) or client.copy_model_version(address, to)
    if copy.source != address or _COPIED_FROM in copy.tags:
        return copy
    number = str(copy.version)
    # What another environment decided is not decided here.
    for tag in {APPROVAL, registry.CHAMPION_BEFORE, registry.ROLLED_BACK, *_PROMOTED} & copy.tags.keys():
        client.delete_model_version_tag(to, number, tag)
    client.set_model_version_tag(to, number, _COPIED_FROM, address)
    return client.get_model_version(to, number)


def _refuse_unfit(version: ModelVersion) -> None:
    where = f"version {version.version} of {version.name}"
    if version.status != "READY":
        raise Failure(f"The version is {version.status}", where=where, remedy="promote one that is READY")
    measured = {measure: version.tags.get(registry.score_tag("validation", measure)) for measure in registry.MEASURES}
    # Bits per byte are there for every text. Versions of before carry a `nan`; later ones carry no such number.
    value = measured["bits_per_byte"] or measured["word_perplexity"]
    unmeasured = value is None and version.tags.get(registry.VERDICT) == "invalid"
    if unmeasured or (value is not None and finite(value) is None):
        raise Failure(
            f"The model of this version is not sound: its perplexity on validation is {value or 'no number'}",
            where=where,
            remedy="promote one that is sound",
        )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise Failure(
            "The reason is empty", where="--reason", remedy="say why, for the record", exit_code=ExitCode.USAGE
        )


def _record(reason: str) -> tuple[str, str, str]:
    return _user(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), reason[:5000]


def _user() -> str:
    return os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()


def _impossible(what: str, model: str) -> Failure:
    return Failure(what, where=f"model {model}", remedy="choose a version by `wikigpt models` and `wikigpt promote`")
