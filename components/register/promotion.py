"""Moves the aliases of a registered model by the verdict of the gate.

Everything here runs under the lock on the registered model, see `model_lock`, so that no other run or command
interferes. A person in the MLflow UI may interfere. A tag of the registered model announces each move of the alias
before the move. If a process was killed during a move, the next holder of the lock finishes it, unless a person has
moved the alias since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.base.failure import Failure
from components.shared.tracking import registry
from components.shared.tracking.gate import Verdict

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# A tag of versions that have had the alias champion, for which the gate is not evaluated again.
APPROVAL, SETTLED = "wikigpt.approval", "settled"
# A tag of registered models: a decided move of the alias champion that may be unfinished, as "<from>:<to>".
ANNOUNCED = "wikigpt.champion_move"
_ROUNDS = 20

GateAgainst = Callable[["ModelVersion | None"], Verdict]


@dataclass(frozen=True)
class Move:
    """A move of the alias champion between two version numbers; `before` is empty if there was no champion."""

    before: str
    version: str


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


def decide_alias(client: MlflowClient, model: str, version: str, gate_against: GateAgainst) -> AliasDecision:
    """Compares a version with the champion by the gate, and moves the alias accordingly. It can be repeated safely.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: the number of a version with the status READY.
        gate_against: a function that applies the gate to this version and the champion, or None.

    Raises:
        Failure: the lock was lost, or other users keep moving the alias.
    """
    finish_move(client, model)
    tags = client.get_model_version(model, version).tags
    champion = registry.version_with_alias(client, model, registry.CHAMPION)
    if registry.ROLLED_BACK in tags and _number(champion) != version:
        reason = f"Version {version} was champion and was rolled back, so only a person can promote it."
        return _challenge(client, model, version, Verdict("keep", reason, alias="challenger"), champion)
    if _number(champion) == version or tags.get(APPROVAL) == SETTLED:
        reason = tags.get(registry.REASON, "A person made it champion before the gate compared it.")
        alias = registry.CHAMPION if _number(champion) == version else None
        return AliasDecision(tags.get(registry.VERDICT, "promote"), reason, alias, tags.get(registry.CHAMPION_BEFORE))
    for _ in range(_ROUNDS):
        verdict = gate_against(champion)
        if verdict.alias != registry.CHAMPION:
            return _challenge(client, model, version, verdict, champion)
        _record(client, model, version, verdict, champion)
        _announce_move(client, model, _number(champion), version)
        if finish_move(client, model):
            return AliasDecision(verdict.word, verdict.reason, registry.CHAMPION, _number(champion) or None)
        champion = registry.version_with_alias(client, model, registry.CHAMPION)
    raise _moved_by_others(client, model)


def move_champion(client: MlflowClient, model: str, version: str) -> None:
    """Moves the alias champion to a version that a person has chosen.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: the number of the version.

    Raises:
        Failure: the lock was lost, or other users keep moving the alias.
    """
    for _ in range(_ROUNDS):
        _announce_move(client, model, _number(registry.version_with_alias(client, model, registry.CHAMPION)), version)
        if finish_move(client, model):
            return
    raise _moved_by_others(client, model)


def return_champion(client: MlflowClient, model: str, version: str, back_to: str) -> bool:
    """Moves the alias champion from a version back to another one, unless a person has moved it since.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: the number of the version that must have the alias; "" if nobody must have it.
        back_to: the number of the version that gets it.

    Returns:
        Whether the alias was moved. It was not if another version has it, or if `back_to` was deleted.
    """
    finish_move(client, model)
    if _number(registry.version_with_alias(client, model, registry.CHAMPION)) != version:
        return False
    _announce_move(client, model, version, back_to)
    return finish_move(client, model) is not None


def pending_move(client: MlflowClient, model: str) -> tuple[Move, bool] | None:
    """Reads the announced move of the alias, and whether `finish_move` would make it.

    Args:
        client: a client of the registry.
        model: the name of the registered model.

    Returns:
        The move and whether it would be made, or None if no move is announced.
    """
    if (announced := _announced(client, model)) is None:
        return None
    move, is_made = announced
    return move, is_made or _can_make(client, model, move)


def finish_move(client: MlflowClient, model: str) -> Move | None:
    """Makes the announced move of the alias, or completes it.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.

    Returns:
        The move, or None if no move was announced, or if a person has moved the alias or deleted the version since.
    """
    if (announced := _announced(client, model)) is None:
        return None
    move, is_made = announced
    made = is_made or _make(client, model, move)
    if made:
        client.set_model_version_tag(model, move.version, APPROVAL, SETTLED)
        if _number(registry.version_with_alias(client, model, registry.CHALLENGER)) == move.version:
            client.delete_registered_model_alias(model, registry.CHALLENGER)
    client.delete_registered_model_tag(model, ANNOUNCED)
    return move if made else None


def _announced(client: MlflowClient, model: str) -> tuple[Move, bool] | None:
    """The announced move of the alias, and whether the alias was already moved; None if no move is announced."""
    tags = client.get_registered_model(model).tags
    if ANNOUNCED not in tags:
        return None
    before, _, version = tags[ANNOUNCED].partition(":")
    return Move(before, version), tags.get(registry.LAST_CHAMPION) == version


def _can_make(client: MlflowClient, model: str, move: Move) -> bool:
    if all(str(known.version) != move.version for known in registry.versions(client, model)):
        return False
    return _number(registry.version_with_alias(client, model, registry.CHAMPION)) in (move.before, move.version)


def _make(client: MlflowClient, model: str, move: Move) -> bool:
    if not _can_make(client, model, move):
        return False
    # A change of the alias by a person at this moment is overwritten.
    client.set_registered_model_alias(model, registry.CHAMPION, move.version)
    client.set_registered_model_tag(model, registry.LAST_CHAMPION, move.version)
    return True


def _announce_move(client: MlflowClient, model: str, before: str, version: str) -> None:
    """Records the version that has the alias ("" for none), and then the version that will get it."""
    if before:
        client.set_registered_model_tag(model, registry.LAST_CHAMPION, before)
    else:
        client.delete_registered_model_tag(model, registry.LAST_CHAMPION)
    client.set_registered_model_tag(model, ANNOUNCED, f"{before}:{version}")


def _challenge(
    client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None
) -> AliasDecision:
    """Records that the version does not become champion, and sets the alias challenger if the verdict names one."""
    _record(client, model, version, verdict, champion)
    if verdict.alias:
        client.set_registered_model_alias(model, registry.CHALLENGER, version)
    alias = registry.CHALLENGER if verdict.alias else None
    return AliasDecision(verdict.word, verdict.reason, alias, _number(champion) or None)


def _record(client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None) -> None:
    client.set_model_version_tag(model, version, registry.VERDICT, verdict.word)
    client.set_model_version_tag(model, version, registry.REASON, verdict.reason)
    if champion:
        client.set_model_version_tag(model, version, registry.CHAMPION_BEFORE, _number(champion))
    else:
        client.delete_model_version_tag(model, version, registry.CHAMPION_BEFORE)


def _number(version: ModelVersion | None) -> str:
    return str(version.version) if version else ""


def _moved_by_others(client: MlflowClient, model: str) -> Failure:
    return Failure(
        f"Other users moved the alias {registry.CHAMPION} at the same time, {_ROUNDS} times in a row",
        where=f"{client.tracking_uri}, model {model}",
        remedy="run again when nobody moves the alias in the MLflow UI",
    )
