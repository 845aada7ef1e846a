"""Records moves of the alias `champion` that no run and no command made, for the commands that serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.register.alias_move import notice_click
from components.shared.tracking.approval import promoters_of_environment
from components.shared.tracking.champion_moves import ChampionMove, champion_state
from pipelines.registry.promotion import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.shared.storage.store import Store


def record_click(client: MlflowClient, model: str, store: Store | None, command: str) -> ChampionMove | None:
    """Records a click that is not on record yet, with the time of now.

    Args:
        client: a client of the registry.
        model: the name of the registered model.
        store: the store with the lock on the registered model; None writes without the lock.
        command: the command that noticed it, as the owner of the lock.

    Raises:
        Failure: the lock is not released.
    """
    if champion_state(client, model).unrecorded() is None:
        return None
    with locked(client, store, model, command) as held:
        return notice_click(held, model, promoters_of_environment())
