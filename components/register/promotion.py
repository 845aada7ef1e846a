"""Moves the aliases of a registered model by the verdict of the gate, or to the version that a person has chosen.

Everything here runs under the lock on the registered model, see `model_lock`, so that no other run or command
interferes. A person in the MLflow UI may interfere, see `alias_move`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.register.alias_move import (
    APPROVAL,
    ROUNDS,
    SETTLED,
    announce_move,
    finish_move,
    moved_by_others,
    notice_click,
    number_of,
)
from components.shared.tracking import registry
from components.shared.tracking.accounts import own_name
from components.shared.tracking.approval import champion_version
from components.shared.tracking.gate import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

GateAgainst = Callable[["ModelVersion | None"], Verdict]


@dataclass(frozen=True)
class AliasDecision:
    """The outcome for one version.

    Attributes:
        verdict: the verdict of the gate.
        reason: the reason of the verdict, as a sentence.
        alias: the alias that the version gets, or None.
        rival: the version that it was compared with, or None.
    """

    verdict: str
    reason: str
    alias: str | None
    rival: str | None


def decide_alias(
    client: MlflowClient,
    model: str,
    version: str,
    gate_against: GateAgainst,
    promoters: Collection[str] = (),
    prepare: Callable[[AliasDecision], object] = lambda _: None,
) -> AliasDecision:
    """Compares a version with the champion by the gate, and moves the alias accordingly. It can be repeated safely.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: the number of a version with the status READY.
        gate_against: a function that applies the gate to this version and the champion, or None.
        promoters: see `approved_champion`; the version is compared with the approved champion.
        prepare: called with the decision, before the alias champion moves: whoever follows it must find the version
            ready. It is called again if the decision changes, because a person moved the alias.

    Raises:
        Failure: the lock was lost, or other users keep moving the alias.
    """
    finish_move(client, model)
    notice_click(client, model, promoters)
    tags = client.get_model_version(model, version).tags
    holder, champion = _champion(client, model, promoters)
    if registry.ROLLED_BACK in tags and number_of(champion) != version:
        reason = f"Version {version} was champion and was rolled back, so only a person can promote it."
        verdict = Verdict("keep", reason, alias="challenger")
        return _prepared(_challenge(client, model, version, verdict, champion), prepare)
    if number_of(champion) == version or tags.get(APPROVAL) == SETTLED:
        reason = tags.get(registry.REASON, "A person made it champion before the gate compared it.")
        alias = registry.CHAMPION if number_of(champion) == version else None
        word, before = tags.get(registry.VERDICT, "promote"), tags.get(registry.CHAMPION_BEFORE)
        return _prepared(AliasDecision(word, reason, alias, before), prepare)
    for _ in range(ROUNDS):
        verdict = gate_against(champion)
        if verdict.alias != registry.CHAMPION:
            return _prepared(_challenge(client, model, version, verdict, champion), prepare)
        _record(client, model, version, verdict, champion)
        decision = AliasDecision(verdict.word, verdict.reason, registry.CHAMPION, number_of(champion) or None)
        prepare(decision)
        announce_move(client, model, holder, version, "gate", by=own_name(), reason=verdict.reason)
        if finish_move(client, model):
            return decision
        holder, champion = _champion(client, model, promoters)
    raise moved_by_others(client, model)


def _prepared(decision: AliasDecision, prepare: Callable[[AliasDecision], object]) -> AliasDecision:
    prepare(decision)
    return decision


def move_champion(client: MlflowClient, model: str, version: str, *, by: str = "", reason: str = "") -> None:
    """Moves the alias champion to a version that a person has chosen, or confirms that it stands there.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: the number of the version.
        by, reason: who has chosen it, and why, for the history.

    Raises:
        Failure: the lock was lost, or other users keep moving the alias.
    """
    for _ in range(ROUNDS):
        holder = number_of(registry.version_with_alias(client, model, registry.CHAMPION))
        announce_move(client, model, holder, version, "command", by=by, reason=reason)
        if finish_move(client, model):
            return
    raise moved_by_others(client, model)


def _champion(client: MlflowClient, model: str, promoters: Collection[str]) -> tuple[str, ModelVersion | None]:
    """The number of the version with the alias ("" for none), read first, and the approved champion."""
    holder = registry.version_with_alias(client, model, registry.CHAMPION)
    champion = champion_version(client, model, promoters) if promoters else holder
    return number_of(holder), champion


def _challenge(
    client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None
) -> AliasDecision:
    """Records that the version does not become champion, and sets the alias challenger if the verdict names one."""
    _record(client, model, version, verdict, champion)
    if verdict.alias:
        client.set_registered_model_alias(model, registry.CHALLENGER, version)
    alias = registry.CHALLENGER if verdict.alias else None
    return AliasDecision(verdict.word, verdict.reason, alias, number_of(champion) or None)


def _record(client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None) -> None:
    client.set_model_version_tag(model, version, registry.VERDICT, verdict.word)
    client.set_model_version_tag(model, version, registry.REASON, verdict.reason)
    if verdict.interval and verdict.difference is not None:
        numbers = " ".join(f"{value:.6g}" for value in (verdict.difference, *verdict.interval))
        client.set_model_version_tag(model, version, registry.GATE_INTERVAL, numbers)
    else:
        client.delete_model_version_tag(model, version, registry.GATE_INTERVAL)
    if champion:
        client.set_model_version_tag(model, version, registry.CHAMPION_BEFORE, number_of(champion))
    else:
        client.delete_model_version_tag(model, version, registry.CHAMPION_BEFORE)
