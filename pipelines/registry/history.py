"""The history of the alias `champion` of a registered model, for `wikigpt history`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from components.shared.tracking.announcement import moves_under_way
from components.shared.tracking.champion_moves import ChampionMove, How, champion_state

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import RegistryReader


@dataclass(frozen=True)
class HistoryRow:
    """One move of the alias champion.

    Attributes:
        model: the registered model.
        number: the number of the move; None for a click that is not on record yet.
        at: when it happened, in UTC; for a click, when it was noticed.
        before, version: the numbers of the versions; "" for none.
        how: `gate`, `command`, `rollout` or `click`.
        by: who moved it; "" if MLflow does not say.
        reason: why.
        movers: of a click, the accounts that had the right to make it; None if MLflow does not say.
    """

    model: str
    number: int | None
    at: str
    before: str
    version: str
    how: How
    by: str
    reason: str
    movers: tuple[str, ...] | None


def history(reader: RegistryReader, model: str) -> list[HistoryRow]:
    """The moves of the alias, the newest first, with a click that nobody has recorded yet."""
    state = champion_state(reader, model)
    under_way = moves_under_way(state)
    found = [_row(model, move) for move in [*state.moves, *under_way]]
    if not under_way and (click := state.unrecorded()):
        found.append(HistoryRow(**{**asdict(_row(model, click)), "number": None}))
    return found[::-1]


def _row(model: str, move: ChampionMove) -> HistoryRow:
    return HistoryRow(model=model, **asdict(move))
