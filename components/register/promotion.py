"""The alias of a new version: the verdict of the gate, and the aliases that follow from it.

Everything here runs under the lock on the registered model, see `model_lock`, so that no other run or command is in
between; a person's click in the MLflow UI may be. A move of the alias is announced before it is made, by a tag of the
registered model. The next holder of the lock finishes a move whose process died, unless a person has moved the
alias since.
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

# Of a version: it has had the alias, so the gate is not asked again.
APPROVAL, SETTLED = "wikigpt.approval", "settled"
# Of a registered model: a move of the alias champion that was decided and may not be finished, as "<from>:<to>".
ANNOUNCED = "wikigpt.champion_move"
_ROUNDS = 20

GateAgainst = Callable[["ModelVersion | None"], Verdict]


@dataclass(frozen=True)
class Move:
    """A move of the alias champion, by numbers of versions; `before` is empty where there was no champion."""

    before: str
    version: str


@dataclass(frozen=True)
class AliasDecision:
    """The outcome for one version.

    Attributes:
        verdict: of the gate.
        reason: a sentence for people.
        alias: that the version has because of it, or None.
        rival: the version it was compared with, or None.
    """

    verdict: str
    reason: str
    alias: str | None
    rival: str | None


def decide_alias(client: MlflowClient, model: str, version: str, gate_against: GateAgainst) -> AliasDecision:
    """Compares a version with the champion by the gate, and moves the alias that follows; it is safe to repeat.

    Args:
        client: of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: registered and READY.
        gate_against: the gate for this version against the champion, or against nothing.

    Raises:
        Failure: the lock was lost, or somebody moves the alias again and again.
    """
    finish_move(client, model)
    tags = client.get_model_version(model, version).tags
    champion = registry.version_with_alias(client, model, registry.CHAMPION)
    if registry.ROLLED_BACK in tags and _number(champion) != version:
        reason = f"Version {version} was champion and was rolled back, so only a person promotes it."
        return _challenge(client, model, version, Verdict("keep", reason, alias="challenger"), champion)
    if _number(champion) == version or tags.get(APPROVAL) == SETTLED:
        reason = tags.get(registry.REASON, "A person made it champion before it was judged.")
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
    """Moves the alias champion to a version that a person has named.

    Args:
        client: of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: its number.

    Raises:
        Failure: the lock was lost, or somebody moves the alias again and again.
    """
    for _ in range(_ROUNDS):
        _announce_move(client, model, _number(registry.version_with_alias(client, model, registry.CHAMPION)), version)
        if finish_move(client, model):
            return
    raise _moved_by_others(client, model)


def pending_move(client: MlflowClient, model: str) -> tuple[Move, bool] | None:
    """Reads the move of the alias that was announced last, and whether `finish_move` would make it.

    Args:
        client: of the registry.
        model: the name of the registered model.

    Returns:
        None where no move is announced.
    """
    tags = client.get_registered_model(model).tags
    if ANNOUNCED not in tags:
        return None
    before, _, version = tags[ANNOUNCED].partition(":")
    move = Move(before, version)
    return move, tags.get(registry.LAST_CHAMPION) == version or _can_make(client, model, move)


def finish_move(client: MlflowClient, model: str) -> Move | None:
    """Makes the move of the alias that was announced last, or what is missing of it.

    Args:
        client: of the registry, fenced by the lock on the model.
        model: the name of the registered model.

    Returns:
        The move; None where none was announced, or where a person has moved the alias or deleted the version since.
    """
    tags = client.get_registered_model(model).tags
    if ANNOUNCED not in tags:
        return None
    before, _, version = tags[ANNOUNCED].partition(":")
    move = Move(before, version)
    trained = tags.get(registry.LAST_CHAMPION) == version or _make(client, model, move)
    if trained:
        client.set_model_version_tag(model, version, APPROVAL, SETTLED)
        if _number(registry.version_with_alias(client, model, registry.CHALLENGER)) == version:
            client.delete_registered_model_alias(model, registry.CHALLENGER)
    client.delete_registered_model_tag(model, ANNOUNCED)
    return move if trained else None


def _can_make(client: MlflowClient, model: str, move: Move) -> bool:
    if all(str(known.version) != move.version for known in registry.versions(client, model)):
        return False
    return _number(registry.version_with_alias(client, model, registry.CHAMPION)) in (move.before, move.version)


def _make(client: MlflowClient, model: str, move: Move) -> bool:
    if not _can_make(client, model, move):
        return False
    # What a person does with the alias in this instant is overwritten.
    client.set_registered_model_alias(model, registry.CHAMPION, move.version)
    client.set_registered_model_tag(model, registry.LAST_CHAMPION, move.version)
    return True


def _announce_move(client: MlflowClient, model: str, before: str, version: str) -> None:
    """Records the version that has the alias ("" for none), and then the version that it is moved to."""
    if before:
        client.set_registered_model_tag(model, registry.LAST_CHAMPION, before)
    else:
        client.delete_registered_model_tag(model, registry.LAST_CHAMPION)
    client.set_registered_model_tag(model, ANNOUNCED, f"{before}:{version}")


def _challenge(
    client: MlflowClient, model: str, version: str, verdict: Verdict, champion: ModelVersion | None
) -> AliasDecision:
    """The version stays below the champion, with the alias challenger unless the gate gives none."""
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
        f"The alias {registry.CHAMPION} was moved {_ROUNDS} times by others in the same moment",
        where=f"{client.tracking_uri}, model {model}",
        remedy="leave the alias alone for a minute, then run again",
    )
