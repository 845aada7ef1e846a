"""Two concurrent runs, a command and a person: in every order, and if some die, the registry ends in a valid state.

`schedules._verify` and `World._move` check the invariants: equal weights have one version; no version is lost or
incomplete; no live run is reported as dead; the alias moves only from the announced version, to a better one, and not
against a later choice of a person; the best approved version has the alias; the history has each move once and no gap;
with promoters, a click never decides what is served.
"""

import inspect
import itertools
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from components.register import alias_move, model_lock, promotion
from components.shared.storage import lock, store
from pipelines.registry import promotion as commands
from tests.interleavings.schedules import Pick, Plan, Scenario, drawn, listed, play
from tests.interleavings.world import Violation

SAME = Scenario((6.0, 7.0), {"run-1": ("same", 5.0), "run-2": ("same", 5.0)})
TWO = Scenario((6.0, 7.0), {"run-1": ("one", 5.0), "run-2": ("two", 4.0)})
FIRST = Scenario((), {"run-1": ("one", 4.0), "run-2": ("two", 5.0)})
COMMAND = Scenario((6.0, 7.0), {"run-1": ("one", 5.0)}, command=True)
PROMOTERS = Scenario((6.0, 7.0), {"run-1": ("one", 5.0), "run-2": ("two", 4.0)}, promoters=("ada",))
SCENARIOS = {
    "same weights": SAME,
    "two models": TWO,
    "the first models": FIRST,
    "a command": COMMAND,
    "promoters": PROMOTERS,
}
DRAWN = 2200  # a scenario


def schedules(scenario: Scenario, stride: int, count: int) -> Iterator[tuple[Plan, Pick]]:
    yield from itertools.islice(listed(scenario), 0, None, stride)
    yield from (drawn(seed, scenario) for seed in range(count))


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "model_lock", commands.model_lock)  # `play` replaces it by that of its world
    monkeypatch.setattr(store, "_PAUSES", (0.0,) * 9)


@pytest.mark.parametrize(
    ("stride", "count", "different"),
    [(5, 40, 200), pytest.param(1, DRAWN, 10_000, marks=pytest.mark.slow)],
    ids=["some", "many"],
)
def test_no_schedule_ends_in_what_must_not_be(stride: int, count: int, different: int) -> None:
    seen: set[int] = set()
    crashes = doubts = clicks = 0
    for scenario in SCENARIOS.values():
        for plan, pick in schedules(scenario, stride, count):
            world = play(scenario, plan, pick)
            seen.add(hash((id(scenario), *world.log)))
            crashes += any(actor.attempts > 1 or actor.crashed for actor in world.actors)
            doubts += any(actor.ever_doubted for actor in world.actors)
            clicks += bool(world.clicks)
    assert len(seen) > different, "different schedules"
    assert min(crashes, doubts, clicks) > different // 20


BREAKS = {
    "the record of a lock is made whatever is there": (
        (lock.Lock, "_create", "self.store.claim(", "self.store.put_record("),
        (lock.Lock, "_create", '.get("nonce") == record.nonce', " is None"),
    ),
    "whoever made a record takes it for the last one": (
        (lock.Lock, "acquire", "and self._number() == mine.number", ""),
    ),
    "a living run is taken over from": ((lock._Waiting, "finds_dead", "return not alive", "return True"),),
    "a run does not take over from its own dead attempt": ((lock.Lock, "acquire", "last.owner == owner or", ""),),
    "a lock that was released is not free": ((lock.Lock, "acquire", "last.released or", ""),),
    "a run that was declared dead does not notice": ((lock.Lock, "check", "!= number", "is None"),),
    "versions are not looked for before one is made": ((model_lock, "register_once", "if not found:", "if True:"),),
    "versions are not looked for after one was made": (
        (model_lock, "register_once", "existing is None or", "True or"),
    ),
    "a move that somebody died in is not finished": (
        (promotion, "decide_alias", "    finish_move(client, model)\n    notice", "    notice"),
    ),
    "a move that somebody died in is finished whatever a person did": (
        (alias_move, "_can_make", "in (move.before, move.version)", "is not None"),
    ),
    "a move that was made is made again": ((alias_move, "finish_move", "is_made or ", ""),),
    "a move is announced without where it is from": (
        (alias_move, "announce_move", "registry.LAST_CHAMPION, before", "registry.LAST_CHAMPION, version"),
    ),
    "a move is not announced": ((alias_move, "announce_move", "model, ANNOUNCED", 'model, "other"'),),
    "the gate is asked again about what was champion": (
        (promotion, "decide_alias", "or tags.get(APPROVAL) == SETTLED", ""),
    ),
    "a move is not recorded": ((alias_move, "finish_move", "if move.entry:", "if None:"),),
    "a move that is recorded again gets another number": (
        (
            alias_move,
            "finish_move",
            "move.entry, moves",
            'ChampionMove.new(next_number(moves), move.before, move.version, "gate"), moves',
        ),
    ),
    "a click is not recorded before the next move": (
        (alias_move, "announce_move", "if before != state.recorded:", "if None:"),
        (promotion, "decide_alias", "    notice_click(client, model, promoters)\n", ""),
    ),
    "the gate compares with a champion that nobody approved": (
        (promotion, "_champion", "if promoters else holder", "if None else holder"),
    ),
}


OF_DOUBTS = {
    "a run that was declared dead does not notice",
    "versions are not looked for after one was made",
}


@pytest.mark.slow
@pytest.mark.parametrize("broken", BREAKS)
def test_what_is_broken_is_found(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name, old, new in BREAKS[broken]:
        mutate(monkeypatch, owner, name, old, new)
    with pytest.raises(Violation):
        for seed in range(DRAWN):
            for scenario in SCENARIOS.values():
                play(scenario, *drawn(seed, scenario, doubts=40 if broken in OF_DOUBTS else None))


def mutate(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, old: str, new: str) -> None:
    """Replaces a function, also where it was imported, by a copy of it in which a part of the source is replaced."""
    function = getattr(owner, name)
    source = getattr(function, "mutated", None) or textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, (name, old)
    source = source.replace(old, new)
    namespace = dict(function.__globals__)
    exec("from __future__ import annotations\n" + source, namespace)
    namespace[name].mutated = source
    for module in (owner, alias_move, model_lock, promotion, commands):
        if getattr(module, name, None) is function:
            monkeypatch.setattr(module, name, namespace[name])
