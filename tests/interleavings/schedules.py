"""Schedules of the calls of actors, drawn from a seed or enumerated, and the invariants that each must keep."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

from components.shared.tracking import registry
from components.shared.tracking.announcement import ANNOUNCED
from components.shared.tracking.approval import approved_champion
from components.shared.tracking.champion_moves import moves_in
from pipelines.registry import promotion
from tests.interleavings.world import IDENTITY, MODEL, Actor, Crash, Violation, World, registration

_BURSTS = (1, 1, 2, 2, 3, 5, 8, 20, 60)  # calls of an actor before another one continues
Pick = Callable[[World, list[Actor]], Actor]


@dataclass(frozen=True)
class Scenario:
    """The actors.

    Attributes:
        levels: the levels of the versions at the start.
        runs: identity of the weights and level, by the name of the run.
        command: whether a person also runs `wikigpt promote 1`.
        promoters: see `World`.
    """

    levels: tuple[float, ...]
    runs: dict[str, tuple[str, float]]
    command: bool = False
    promoters: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The external events, and the steps at which they happen.

    Attributes:
        crash_at: see `World`.
        retried: runs that are tried again after they died or failed.
        click: step and version of a person's click.
        doubt: step and run of a run that is declared dead from then on.
    """

    crash_at: dict[str, set[int]] = field(default_factory=dict)
    retried: frozenset[str] = frozenset()
    click: tuple[int, str] | None = None
    doubt: tuple[int, str] | None = None


def play(scenario: Scenario, plan: Plan, pick: Pick) -> World:
    """Runs one schedule to its end and checks the result.

    Raises:
        Violation: an invariant does not hold.
    """
    world = World(scenario.levels, plan.crash_at, scenario.promoters)
    promotion.model_lock = world.lock  # type: ignore[assignment]
    for run, (identity, level) in scenario.runs.items():
        world.actors.append(Actor(world, run, registration(identity, level)))
    if scenario.command:
        world.actors.append(Actor(world, "wikigpt promote", _promote))
    try:
        _play(world, plan, pick)
        _verify(world, scenario)
    except Violation as violation:
        raise Violation("\n  ".join([str(violation), *map(str, world.log)])) from None
    finally:
        for actor in world.actors:
            actor.crashed = True
            if actor.thread and not actor.thread.dead:
                actor.thread.throw(Crash)
    return world


def _play(world: World, plan: Plan, pick: Pick) -> None:
    click, doubt = plan.click, plan.doubt
    while True:
        for actor in world.actors:
            if actor.over and (actor.crashed or actor.failure) and actor.name in plan.retried:
                actor.begin()
        ready = [actor for actor in world.actors if not actor.over]
        if click and (world.steps >= click[0] or not ready) and _exists(world, click[1]):
            if world.champion != click[1]:
                world.click(click[1])
            click = None
        if not ready:
            return
        stopped = next((actor for actor in ready if actor.doubted and actor.fenced_write), None)
        if stopped:  # no other actor takes the lock over between its check and its write
            world.step(stopped)
            continue
        if doubt and world.steps >= doubt[0]:
            victim = next(actor for actor in world.actors if actor.name == doubt[1])
            if victim.over:
                doubt = None
            elif not victim.fenced_write:
                world.doubt(victim)
                doubt = None
        moving = [a for a in ready if a.waits_since is None or world.writes > a.waits_since]
        world.step(pick(world, moving or ready))


def _exists(world: World, version: str) -> bool:
    return MODEL in world.registry.models and version in world.registry.models[MODEL].versions


def _promote(world: World, actor: Actor) -> None:
    moved = promotion.promote(world.client, f"models:/{MODEL}/1", reason="a test", store=world.store)
    world.promoted = moved.before != moved.version


def drawn(seed: int, scenario: Scenario, *, doubts: int | None = None) -> tuple[Plan, Pick]:
    """A random schedule: one actor continues for a few calls, then another one; with crashes, a click and a doubt.

    Args:
        seed: of the draw.
        scenario: who takes part.
        doubts: the step up to which a run is declared dead in each schedule, instead of now and then.
    """
    draw, rate = random.Random(seed), 0.3 if doubts is None else 1.0
    names = [*scenario.runs, *(["wikigpt promote"] if scenario.command else [])]
    crash_at: dict[str, set[int]] = {}
    for name in names:
        if draw.random() < 0.5:
            crash_at[name] = {draw.randint(1, 24) for _ in range(draw.randint(1, 2))}
    plan = Plan(
        crash_at=crash_at,
        retried=frozenset(name for name in scenario.runs if draw.random() < 0.75),
        click=(draw.randint(0, 140), str(draw.randint(1, len(scenario.levels) + 2))) if draw.random() < 0.5 else None,
        doubt=(draw.randint(0, doubts or 120), draw.choice(list(scenario.runs))) if draw.random() < rate else None,
    )
    left, chosen = 0, ""

    def pick(world: World, ready: list[Actor]) -> Actor:
        nonlocal left, chosen
        left -= 1
        same = next((actor for actor in ready if actor.name == chosen), None) if left > 0 else None
        if same is None:
            same, left = draw.choice(ready), draw.choice(_BURSTS)
            chosen = same.name
        return same

    return plan, pick


def listed(scenario: Scenario) -> Iterator[tuple[Plan, Pick]]:
    """Every schedule in which the first run dies after one of its writes and a person clicks at one of the steps.

    The other one begins before it, after it, or at its death; from there they alternate.
    """
    first, second = [*scenario.runs, "wikigpt promote"][:2]
    for crash, click, head_start, retried in itertools.product(
        range(20), (None, *range(4, 100, 8)), (0, 12, 200), (True, False)
    ):
        yield (
            Plan(
                crash_at={first: {crash}},
                retried=frozenset({first, second} if retried else {second}),
                click=None if click is None else (click, str(len(scenario.levels) or 1)),
            ),
            _in_turn(first, head_start),
        )


def _in_turn(first: str, head_start: int) -> Pick:
    """The first actor for this number of steps, then each in turn."""

    def pick(world: World, ready: list[Actor]) -> Actor:
        ahead = [actor for actor in ready if actor.name == first]
        return ahead[0] if ahead and world.steps < head_start else ready[world.steps % len(ready)]

    return pick


def _verify(world: World, scenario: Scenario) -> None:
    model = world.registry.models.get(MODEL)
    for actor in world.actors:
        if actor.failure and not actor.ever_doubted:
            raise Violation(f"{actor.name} failed, though nothing had happened to it: {actor.failure}")
    if model is None:
        return
    by_identity: dict[str, list[str]] = {}
    for number, version in model.versions.items():
        by_identity.setdefault(version.tags[IDENTITY], []).append(number)
    for identity, numbers in by_identity.items():
        counting = [number for number in numbers if registry.REGISTERED in model.versions[number].tags] or numbers[:1]
        # A run that was declared dead while it made a version, and then died for good, leaves one that does not count.
        excused = any(actor.crashed and actor.ever_doubted for actor in world.actors)
        if len(counting) > 1 or (len(numbers) > 1 and not excused):
            raise Violation(f"more than one version of the same weights, {identity}: {numbers}")
        by_identity[identity] = counting
    if lost := {str(number + 1) for number in range(len(scenario.levels))} - model.versions.keys():
        raise Violation(f"versions {lost} are lost")
    made: dict[str, str] = {}
    for run in world.actors:
        if run.name not in scenario.runs or not run.ended or run.failure:
            continue
        if (identity := scenario.runs[run.name][0]) not in by_identity:
            raise Violation(f"the version of {run.name} is lost")
        number = made[run.name] = by_identity[identity][0]
        tags, clicked = model.versions[number].tags, any(click.version == number for click in world.clicks)
        if registry.REGISTERED not in tags or not (registry.VERDICT in tags or clicked):
            raise Violation(f"{run.name} has ended, and its version {number} is not complete: {tags}")
    recorded = {(move.before, move.version) for move in moves_in(model.tags)}
    for move in world.moves:
        # A run moved the alias and died before it wrote that down; then a person moved it: see the documentation.
        cut_off = (move.announced, move.version) not in recorded and any(click.at > move.at for click in world.clicks)
        if move.by_gate and not cut_off and model.versions[move.version].tags[registry.VERDICT] != "promote":
            raise Violation(f"version {move.version} was promoted by the gate, and its verdict was rewritten")
    _verify_history(world)
    if scenario.promoters:
        _verify_served(world, scenario, made)
    else:
        _verify_champion(world, scenario, made)


def _verify_history(world: World) -> None:
    """The history has no gap, and each move once: ours as ours, and a click at most once."""
    tags, clicks = world.registry.models[MODEL].tags, len(world.clicks)
    history = moves_in(tags)
    if [move.number for move in history] != [number + 1 for number in range(len(history))]:
        raise Violation(f"the numbers of the history are not consecutive: {history}")
    if any(later.before != earlier.version for earlier, later in itertools.pairwise(history)):
        raise Violation(f"the history has a gap: {history}")
    if sum(move.how == "click" for move in history) > clicks:
        raise Violation(f"there were {clicks} clicks, and the history has more: {history}")
    recorded = Counter((move.before, move.version) for move in history if move.how != "click")
    # A click in the moment between the last look at the alias and its move is overwritten: see the documentation.
    happened = Counter((move.announced, move.version) for move in world.moves if move.by != "person")
    happened += Counter([(move.before, move.version) for move in world.clicks] + world.confirmed)
    if doubled := recorded - happened:
        raise Violation(f"moves {doubled} are on record more often than they were made")
    # A run moved the alias and died before it wrote that down; then a person moved it: see the documentation.
    excused = ANNOUNCED in tags or (clicks and any(actor.attempts > 1 or actor.crashed for actor in world.actors))
    changed = {(move.announced, move.version) for move in world.moves if move.by != "person"}
    if (lost := changed - recorded.keys()) and not excused:
        raise Violation(f"moves {lost} are not on record")
    if not excused and history and history[-1].version != world.champion and world.moves[-1].by != "person":
        raise Violation(f"{world.champion} is champion, and the history ends with {history[-1]}")


def _verify_served(world: World, scenario: Scenario, made: dict[str, str]) -> None:
    """With promoters, no click decides: the best version that the gate has seen is the approved champion."""
    served = approved_champion(cast(Any, world.registry), MODEL, scenario.promoters).version
    for rival in [*made.values(), *(["1"] if scenario.levels else [])]:
        if not served or world.level(served) > world.level(rival):
            raise Violation(f"{served or 'no version'} is approved, though version {rival} is better")


def _verify_champion(world: World, scenario: Scenario, made: dict[str, str]) -> None:
    """The champion is the best approved version, or the one that a person chose later."""
    champion, clicks, moves = world.champion, world.clicks, world.moves
    if made and ANNOUNCED in world.registry.models[MODEL].tags and not any(actor.crashed for actor in world.actors):
        raise Violation("everybody has ended well, and a move of the alias is not finished")
    if clicks and moves[-1] is clicks[-1] and champion != clicks[-1].version:
        raise Violation(f"a person chose {clicks[-1].version} at last, and {champion} is champion")
    if world.promoted and not any(move.version == "1" for move in moves):
        raise Violation("the command has ended well and moved nothing")
    if scenario.command:
        return  # the version that it chose stays, whatever its level
    since = clicks[-1].at if clicks else -1
    decided = {move.version for move in moves[: moves.index(clicks[-1])]} if clicks else set()
    decided |= {number for number in made.values() if world.judged_at.get(number, -2) < since}
    rivals = [number for number in made.values() if number not in decided]
    rivals += ["1"] if scenario.levels and not clicks else []
    for rival in rivals:
        if not champion or world.level(champion) > world.level(rival):
            raise Violation(f"{champion or 'nobody'} is champion, though version {rival} is better")
