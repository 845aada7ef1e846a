"""Promotion by a person, and the way back: who, when and why is recorded on the version."""

from __future__ import annotations

import getpass
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.register.promotion import APPROVAL, PERPLEXITY, SETTLED
from components.shared import registry
from components.shared.failure import ExitCode, Failure
from pipelines.registry.references import model_name, resolve

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

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
    client: MlflowClient, reference: str, *, reason: str, model: str | None = None, to: str | None = None
) -> Moved:
    """Makes a version champion, here or as a copy in another registered model (another environment).

    Args:
        client: of the registry.
        reference: see `resolve`.
        reason: for the record, in the promoter's words.
        model: the name of the registered model, see `resolve`.
        to: the registered model to copy the version to; made where it does not exist, one copy per version.

    Raises:
        Failure: no reason, no such version, or one that must not be champion.
    """
    _require(reason)
    version = resolve(client, reference, model)
    _refuse_unfit(version)
    if to is not None and to != version.name:
        version = _copy(client, version, to)
    name, number = version.name, str(version.version)
    champion = registry.holder(client, name, registry.CHAMPION)
    before = str(champion.version) if champion else None
    if before == number:
        return Moved(name, number, before)
    for tag, value in zip(_PROMOTED, _record(reason), strict=True):
        client.set_model_version_tag(name, number, tag, value)
    if before:
        client.set_model_version_tag(name, number, registry.CHAMPION_BEFORE, before)
    if registry.ROLLED_BACK in version.tags:
        client.delete_model_version_tag(name, number, registry.ROLLED_BACK)
    _move(client, name, number)
    return Moved(name, number, before)


def rollback(client: MlflowClient, *, reason: str, model: str | None = None) -> Moved:
    """Gives the alias back to the champion before. The gate never promotes the version that lost it again.

    Args:
        client: of the registry.
        reason: for the record.
        model: the name of the registered model, see `model_name`.

    Raises:
        Failure: no reason, no champion, or no champion before it that still exists.
    """
    _require(reason)
    name = model_name(client, model)
    champion = registry.holder(client, name, registry.CHAMPION)
    if champion is None:
        raise _impossible(f"{name} has no champion to roll back from", name)
    number, before = str(champion.version), _champion_before(client, champion)
    if before is None:
        raise _impossible(f"No champion before version {number} of {name} is on record", name)
    by, at, _ = _record(reason)
    client.set_model_version_tag(name, number, registry.ROLLED_BACK, f"{at} by {by}: {reason}"[:5000])
    _move(client, name, before)
    return Moved(name, before, number)


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


def _move(client: MlflowClient, model: str, version: str) -> None:
    """Sets the alias after closing what runs approved so far: a person's word stands above it."""
    for approved in registry.versions(client, model):
        if approved.tags.get(APPROVAL, SETTLED) != SETTLED:
            client.set_model_version_tag(model, str(approved.version), APPROVAL, SETTLED)
    client.set_registered_model_alias(model, registry.CHAMPION, version)
    client.set_registered_model_tag(model, registry.LAST_CHAMPION, version)
    challenger = registry.holder(client, model, registry.CHALLENGER)
    if challenger and str(challenger.version) == version:
        client.delete_registered_model_alias(model, registry.CHALLENGER)


def _copy(client: MlflowClient, version: ModelVersion, to: str) -> ModelVersion:
    weights = version.tags.get(registry.WEIGHTS_DIGEST)
    if weights and (copied := registry.version_of(client, to, weights)):
        return copied
    copy = client.copy_model_version(f"models:/{version.name}/{version.version}", to)
    number = str(copy.version)
    # What another environment decided is not decided here.
    for tag in {APPROVAL, registry.CHAMPION_BEFORE, registry.ROLLED_BACK, *_PROMOTED} & copy.tags.keys():
        client.delete_model_version_tag(to, number, tag)
    client.set_model_version_tag(to, number, "wikigpt.copied_from", f"models:/{version.name}/{version.version}")
    return client.get_model_version(to, number)


def _refuse_unfit(version: ModelVersion) -> None:
    where = f"version {version.version} of {version.name}"
    if version.status != "READY":
        raise Failure(f"The version is {version.status}", where=where, remedy="promote one that is READY")
    perplexity = version.tags.get(PERPLEXITY)
    if perplexity is not None and not math.isfinite(float(perplexity)):
        raise Failure(
            f"The word perplexity of this version is {perplexity}", where=where, remedy="promote one that is sound"
        )


def _require(reason: str) -> None:
    if not reason.strip():
        raise Failure(
            "The reason is empty", where="--reason", remedy="say why, for the record", exit_code=ExitCode.USAGE
        )


def _record(reason: str) -> tuple[str, str, str]:
    who = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    return who, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), reason[:5000]


def _impossible(what: str, model: str) -> Failure:
    return Failure(what, where=f"model {model}", remedy="choose a version by `wikigpt models` and `wikigpt promote`")
