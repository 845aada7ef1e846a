"""The history of the alias `champion` of a registered model: each move is one tag of the model.

MLflow keeps no log of aliases. Our own moves write their tag as part of the announced move (`components.register`), so
that a crash neither loses nor doubles it. A move that none of our commands and runs made (a click in MLflow's pages) is
recorded by the first of them that notices it. The newest `KEPT` moves are kept, and the newest one that is no click.

Every account that may edit the registered model may also write its tags, so the history is a record and no proof.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from components.shared.base.redact import redact
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from components.shared.tracking.sqlite_registry import RegistryReader

# `gate`: a run; `command`: `wikigpt promote` or `rollback`; `rollout`: a version that failed was taken back; `click`:
# anything else, noticed later.
How = Literal["gate", "command", "rollout", "click"]
MOVE = "wikigpt.move."  # followed by the number of the move, six digits
KEPT = 100
# The column of these tags has 5,000 characters, and JSON may escape a character by six.
_REASON, _NAME, _MOVERS = 500, 200, 1000  # characters


@dataclass(frozen=True)
class ChampionMove:
    """One move of the alias.

    Attributes:
        number: its number; they are consecutive.
        before, version: the numbers of the versions; "" if no version had the alias before, or has it afterwards.
        how: who or what moved it.
        by: the MLflow account, else the user of the machine; "" if nobody knows, as for a click.
        at: the time of the move in UTC; for a click, the time when it was noticed.
        reason: why.
        movers: of a click, the accounts that had the right to make it; None if MLflow does not say.
    """

    number: int
    before: str
    version: str
    how: How
    by: str = ""
    at: str = ""
    reason: str = ""
    movers: tuple[str, ...] | None = None

    @classmethod
    def new(cls, number: int, before: str, version: str, how: How, **details: Any) -> ChampionMove:
        """A move that happens or is noticed now."""
        return cls(number, before, version, how, at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **details)

    @property
    def tag(self) -> str:
        """The name of its tag."""
        return f"{MOVE}{self.number:06}"

    def to_text(self) -> str:
        """The value of its tag."""
        movers = self.movers if self.movers is None or sum(map(len, self.movers)) <= _MOVERS else None
        short = {"by": self.by[:_NAME], "reason": " ".join(redact(self.reason).split())[:_REASON], "movers": movers}
        values = {name: value for name, value in {**asdict(self), **short}.items() if name != "number"}
        return json.dumps(values, ensure_ascii=False)

    @classmethod
    def from_text(cls, number: int, text: str) -> ChampionMove | None:
        """The move in the value of a tag; None if somebody has written something else there."""
        try:
            values = json.loads(text)
            movers = None if values["movers"] is None else tuple(map(str, values.pop("movers")))
            texts = {name: str(values[name]) for name in ("before", "version", "how", "by", "at", "reason")}
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        known: Any = texts  # `how` is checked below
        return cls(number, **known, movers=movers) if texts["how"] in get_args(How) else None


@dataclass(frozen=True)
class ChampionState:
    """What the registered model says about its champion, read by one call.

    Attributes:
        holder: the number of the version with the alias; "" if there is none.
        tags: the tags of the registered model.
    """

    holder: str
    tags: Mapping[str, str]

    @property
    def moves(self) -> list[ChampionMove]:
        """The recorded moves, the oldest first."""
        return moves_in(self.tags)

    @property
    def recorded(self) -> str:
        """The version that had the alias after the last move on record; "" if there is none."""
        moves = self.moves
        # Before the first recorded move: an earlier release kept only the last champion.
        return moves[-1].version if moves else self.tags.get(registry.LAST_CHAMPION, "")

    def unrecorded(self, movers: tuple[str, ...] | None = None) -> ChampionMove | None:
        """The click that is not on record, or None."""
        before, moves = self.recorded, self.moves
        if before == self.holder:
            return None
        return ChampionMove.new(next_number(moves), before, self.holder, "click", movers=movers)


def champion_state(reader: RegistryReader, model: str) -> ChampionState:
    """Reads the alias and the tags of a registered model; of a model that does not exist, both are empty."""
    if (found := registry.registered_model(reader, model)) is None:
        return ChampionState("", {})
    return ChampionState(str(found.aliases.get(registry.CHAMPION, "")), dict(found.tags))


def moves_in(tags: Mapping[str, str]) -> list[ChampionMove]:
    """The moves in the tags of a registered model, the oldest first."""
    numbered = [(name.removeprefix(MOVE), text) for name, text in tags.items() if name.startswith(MOVE)]
    moves = [ChampionMove.from_text(int(number), text) for number, text in numbered if number.isdecimal()]
    return sorted(filter(None, moves), key=lambda move: move.number)


def next_number(moves: list[ChampionMove]) -> int:
    """The number of the next move."""
    return moves[-1].number + 1 if moves else 1


def write_move(client: MlflowClient, model: str, move: ChampionMove, moves: list[ChampionMove]) -> None:
    """Writes a move, and then deletes those that are not kept. It can be repeated safely.

    Args:
        client: a client of the registry, fenced by the lock on the model.
        model: the name of the registered model.
        move: the move.
        moves: the moves on record, the oldest first, with or without this one.
    """
    client.set_registered_model_tag(model, move.tag, move.to_text())
    all_moves = [*(known for known in moves if known.number != move.number), move]
    decided = max((known.number for known in all_moves if known.how != "click"), default=move.number)
    for old in all_moves[:-KEPT]:
        if old.number != decided:
            client.delete_registered_model_tag(model, old.tag)
