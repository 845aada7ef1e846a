"""One move of the alias `champion`: announced, made, recorded in the history and settled, whoever is killed meanwhile.

A tag of the registered model announces each move before it is made, with its entry in the history. If a process was
killed during a move, the next holder of the lock on the model finishes it, unless a person in the MLflow UI has moved
the alias since: a click does not take the lock, and is noticed and recorded later.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from components.shared.base.failure import Failure
from components.shared.tracking import registry
from components.shared.tracking.announcement import ANNOUNCED, Announcement, announcement_in
from components.shared.tracking.approval import movers_of
from components.shared.tracking.champion_moves import ChampionMove, How, champion_state, next_number, write_move

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

# A tag of versions that have had the alias champion, for which the gate is not evaluated again.
APPROVAL, SETTLED = "wikigpt.approval", "settled"
ROUNDS = 20  # attempts at a move while other users move the alias


def announce_move(
    client: MlflowClient, model: str, before: str, version: str, how: How, *, by: str, reason: str
) -> None:
    """Records the version that has the alias ("" for none), and then the version that will get it.

    If a click has set the alias to the former, the click is recorded first, so that the history has no gap.
    """
    state = champion_state(client, model)
    moves = state.moves
    if before != state.recorded:
        click = ChampionMove.new(next_number(moves), state.recorded, before, "click")
        write_move(client, model, click, moves)
        moves = [*moves, click]
    entry = ChampionMove.new(next_number(moves), before, version, how, by=by, reason=reason)
    if before:
        client.set_registered_model_tag(model, registry.LAST_CHAMPION, before)
    else:
        client.delete_registered_model_tag(model, registry.LAST_CHAMPION)
    client.set_registered_model_tag(model, ANNOUNCED, Announcement(before, version, entry).to_text())


def pending_move(client: MlflowClient, model: str) -> tuple[Announcement, bool] | None:
    """Reads the announced move of the alias, and whether `finish_move` would make it.

    Args:
        client: a client of the registry.
        model: the name of the registered model.

    Returns:
        The move and whether it would be made, or None if no move is announced.
    """
    move, is_made, _ = _announced(client, model)
    if move is None:
        return None
    return move, registry.has_version(client, model, move.version) and (is_made or _can_make(client, model, move))


def finish_move(client: MlflowClient, model: str) -> Announcement | None:
    """Makes the announced move of the alias, or completes it.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.

    Returns:
        The move, or None if no move was announced, or if a person has moved the alias or deleted the version since.
    """
    move, is_made, moves = _announced(client, model)
    if move is None:
        return None
    made = registry.has_version(client, model, move.version) and (is_made or _make(client, model, move))
    if made:
        if move.entry:
            write_move(client, model, move.entry, moves)
        client.set_model_version_tag(model, move.version, APPROVAL, SETTLED)
        if number_of(registry.version_with_alias(client, model, registry.CHALLENGER)) == move.version:
            client.delete_registered_model_alias(model, registry.CHALLENGER)
    client.delete_registered_model_tag(model, ANNOUNCED)
    return move if made else None


def return_champion(
    client: MlflowClient, model: str, version: str, back_to: str, *, by: str = "", reason: str = ""
) -> bool:
    """Moves the alias champion from a version whose rollout failed to another one, unless a person has moved it since.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        version: the number of the version that must have the alias; "" if nobody must have it.
        back_to: the number of the version that gets it.
        by, reason: for the history.

    Returns:
        Whether the alias was moved. It was not if another version has it, or if `back_to` was deleted.
    """
    finish_move(client, model)
    if number_of(registry.version_with_alias(client, model, registry.CHAMPION)) != version:
        return False
    announce_move(client, model, version, back_to, "rollout", by=by, reason=reason)
    return finish_move(client, model) is not None


def notice_click(client: MlflowClient, model: str, promoters: Collection[str] = ()) -> ChampionMove | None:
    """Records a move of the alias that no run and no command has made, if there is one that is not on record.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        promoters: with them, it is also recorded who had the right to make the move.
    """
    state = champion_state(client, model)
    if ANNOUNCED in state.tags or state.unrecorded() is None:
        return None
    if click := state.unrecorded(movers_of(client, model) if promoters else None):
        write_move(client, model, click, state.moves)
    return click


def number_of(version: ModelVersion | None) -> str:
    """The number of a version; "" if there is none."""
    return str(version.version) if version else ""


def moved_by_others(client: MlflowClient, model: str) -> Failure:
    """The failure of a move after `ROUNDS` attempts."""
    return Failure(
        f"Other users moved the alias {registry.CHAMPION} at the same time, {ROUNDS} times in a row",
        where=f"{client.tracking_uri}, model {model}",
        remedy="run again when nobody moves the alias in the MLflow UI",
    )


def _announced(client: MlflowClient, model: str) -> tuple[Announcement | None, bool, list[ChampionMove]]:
    """The announced move of the alias or None, whether the alias was already moved, and the moves on record."""
    state = champion_state(client, model)
    move = announcement_in(state.tags)
    return move, move is not None and state.tags.get(registry.LAST_CHAMPION) == move.version, state.moves


def _can_make(client: MlflowClient, model: str, move: Announcement) -> bool:
    return number_of(registry.version_with_alias(client, model, registry.CHAMPION)) in (move.before, move.version)


def _make(client: MlflowClient, model: str, move: Announcement) -> bool:
    if not _can_make(client, model, move):
        return False
    # A change of the alias by a person at this moment is overwritten.
    client.set_registered_model_alias(model, registry.CHAMPION, move.version)
    client.set_registered_model_tag(model, registry.LAST_CHAMPION, move.version)
    return True
