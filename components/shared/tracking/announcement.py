"""The announcement of a move of the alias `champion`: a tag of the registered model, written before the move.

If a process dies during a move, the next one finishes it from the announcement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from components.shared.tracking.champion_moves import ChampionMove, ChampionState

# A decided move that may be unfinished, as "<from>:<to>:<number>:<the value of its tag in the history>".
ANNOUNCED = "wikigpt.champion_move"


@dataclass(frozen=True)
class Announcement:
    """A move of the alias champion between two version numbers.

    Attributes:
        before: the version that had the alias; "" if there was none.
        version: the version that gets it.
        entry: the move in the history; None if an earlier release announced it.
    """

    before: str
    version: str
    entry: ChampionMove | None = None

    def to_text(self) -> str:
        """The value of the tag."""
        details = f":{self.entry.number}:{self.entry.to_text()}" if self.entry else ""
        return f"{self.before}:{self.version}{details}"


def announcement_in(tags: Mapping[str, str]) -> Announcement | None:
    """The announced move in the tags of a registered model, or None."""
    if ANNOUNCED not in tags:
        return None
    before, version, number, text = (*tags[ANNOUNCED].split(":", 3), "", "", "")[:4]
    return Announcement(before, version, ChampionMove.from_text(int(number), text) if number.isdecimal() else None)


def moves_under_way(state: ChampionState) -> list[ChampionMove]:
    """The announced move, if it has moved the alias already and is not on record yet; at most one."""
    found = announcement_in(state.tags)
    if found is None or found.entry is None or found.version != state.holder or found.entry.tag in state.tags:
        return []
    return [found.entry]
