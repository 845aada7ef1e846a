"""Decides whether the version with the alias `champion` may be served.

MLflow lets everyone with EDIT on a registered model move its aliases. If a list of promoters is set, a move counts only
if the gate or one of them made it. A move that MLflow does not attribute (a click) counts only if nobody else had the
right to make it, and never for a version that the gate called invalid. Until a promoter confirms such a move, the
champion before it is the approved one. Without a list, the alias decides.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.tracking import registry
from components.shared.tracking.accounts import accounts_that_may_move
from components.shared.tracking.announcement import moves_under_way
from components.shared.tracking.champion_moves import ChampionMove, champion_state
from components.shared.tracking.sqlite_registry import SqliteRegistry

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

VARIABLE = "WIKIGPT_PROMOTERS"


@dataclass(frozen=True)
class Refused:
    """The alias stands where it must not be served from.

    Attributes:
        version: the number of the version with the alias; "" if it was removed.
        reason: why, as a sentence that also names the remedy.
    """

    version: str
    reason: str


@dataclass(frozen=True)
class Approved:
    """The champion as far as it may be served.

    Attributes:
        version: the number of the newest champion that may be served, or None.
        refused: None, or the version with the alias and why it must not be served.
    """

    version: str | None
    refused: Refused | None = None


def promoters_of_environment() -> tuple[str, ...]:
    """The promoters in `WIKIGPT_PROMOTERS`, separated by commas; none if it is not set."""
    return tuple(name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip())


def approved_champion(reader: RegistryReader, model: str, promoters: Collection[str] = ()) -> Approved:
    """Judges the version with the alias `champion`. Nothing is written.

    Args:
        reader: a client of the registry, or the database.
        model: the name of the registered model, which may not exist.
        promoters: the MLflow accounts that may move the alias; if there are none, every version may be served.

    Raises:
        Failure: MLflow does not answer.
    """
    state = champion_state(reader, model)
    if not promoters:
        return Approved(state.holder or None)
    moves = [*state.moves, *moves_under_way(state)]
    if (moves[-1].version if moves else state.recorded) != state.holder:
        click = state.unrecorded(movers_of(reader, model))
        moves = [*moves, click] if click else state.moves
    if not moves:
        return Approved(state.holder or None)
    versions = {str(version.version): version for version in registry.all_versions(reader, model)}
    problem = _problem(moves[-1], versions, promoters)
    if problem is None:
        return Approved(state.holder or None)
    earlier = [move.version for move in moves[-2::-1] if _problem(move, versions, promoters) is None]
    earlier += [moves[0].before] if moves[0].number == 1 else []  # the champion when the history began
    approved = next((version for version in earlier if version in versions), None)
    if approved == state.holder:  # a click returned the alias to it
        return Approved(approved)
    return Approved(approved, Refused(state.holder, problem))


def champion_version(client: MlflowClient, model: str, promoters: Collection[str] = ()) -> ModelVersion | None:
    """The approved champion for a run, or None; without promoters, the version with the alias."""
    if not promoters:
        return registry.version_with_alias(client, model, registry.CHAMPION)
    approved = approved_champion(client, model, promoters)
    return client.get_model_version(model, approved.version) if approved.version else None


def movers_of(reader: RegistryReader, model: str) -> tuple[str, ...] | None:
    """The accounts that may move the alias; None if MLflow does not say."""
    return None if isinstance(reader, SqliteRegistry) else accounts_that_may_move(reader, model)


def _problem(move: ChampionMove, versions: dict[str, AnyVersion], promoters: Collection[str]) -> str | None:
    """Why the outcome of a move must not be served, as a sentence; None if it may be."""
    if move.how in ("gate", "rollout") or (move.how == "command" and move.by in promoters):
        return None
    did = f"made version {move.version} champion" if move.version else "removed the alias champion"
    confirm = f"a promoter confirms it by `wikigpt promote {move.version}`"
    remedy = confirm if move.version else "a promoter sets it by `wikigpt promote VERSION`"
    if move.how == "command":
        return f"{move.by or 'Somebody'} {did} and is no promoter; {remedy}."
    version = versions.get(move.version)
    if version and version.tags.get(registry.VERDICT) == "invalid":
        return f"Somebody {did} in MLflow, and the gate called it invalid; {remedy}."
    if move.movers is None:
        return f"Somebody {did} in MLflow, which does not say who; {remedy}."
    if others := sorted(set(move.movers) - set(promoters)):
        return f"Somebody {did} in MLflow, where also {_listed(others)} may do that; {remedy}."
    return None


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} others" if len(names) > 3 else shown
