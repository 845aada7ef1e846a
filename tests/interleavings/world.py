"""Runs, commands and a person as coroutines over one store and one registry in memory, stepped call by call.

Before each call to the store or to the registry, any other actor may continue. A crash ends an actor directly after a
write, without cleanup; a retry starts the same run again. The clock advances only while an actor waits for the lock.

A run may also be declared dead while it is alive, as after its machine was suspended. There is one exception, which the
documentation of the lock names: between a check and a write to an alias or a tag no other actor takes the lock over.
The creation of a version is no exception, because it has its own remedy for that moment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from greenlet import getcurrent, greenlet
from mlflow.exceptions import MlflowException

from components.register import model_lock, promotion
from components.shared.base.failure import Failure
from components.shared.storage.files import FileFact
from components.shared.storage.lock import Lock
from components.shared.storage.objects import Entry, OldVersion
from components.shared.storage.store import Store
from components.shared.tracking import registry
from components.shared.tracking.announcement import ANNOUNCED
from components.shared.tracking.gate import Verdict
from tests.interleavings.fake_registry import FakeRegistry

MODEL = "wikigpt"
IDENTITY, LEVEL = registry.WEIGHTS_DIGEST, "level"
_READS = ("get_", "search_")
_MOST_STEPS = 3000


class Crash(BaseException):
    """The process of an actor is gone; no `Exception`, so that nothing handles it."""


class Violation(AssertionError):
    """An invariant was violated."""


class Actor:
    """A run of the pipeline or a command: something that is done in steps, and may be done again.

    Attributes:
        name: the owner of what it locks.
        crashed, ended: how its attempt is over.
        doubted: whether it is declared dead though it lives; `ever_doubted` of any of its attempts.
        failure: that ended the attempt.
        pending: the call that it makes next, and whether that writes to the registry.
        waits_since: the number of writes of anybody when it began to wait, or None where it does not.
        writes: that it has made, over all attempts.
        read_at: when it last looked who is champion, in writes of anybody.
    """

    def __init__(self, world: World, name: str, work: Callable[[World, Actor], None]):
        self.world, self.name, self.work = world, name, work
        self.writes = self.attempts = 0
        self.ever_doubted = False
        self.begin()

    def begin(self) -> None:
        self.crashed = self.ended = self.doubted = False
        self.failure: Failure | None = None
        self.pending: Any = "start"
        self.fenced_write = False
        self.waits_since: int | None = None
        self.read_at = -1
        self.attempts += 1
        self.thread = greenlet(self._run, parent=self.world.hub)
        self.thread.actor = self

    @property
    def over(self) -> bool:
        return self.crashed or self.ended

    @property
    def alive(self) -> bool:
        """What its heartbeats would say; a run whose step succeeded continues with another step."""
        return not (self.crashed or self.failure or self.doubted)

    def _run(self) -> None:
        try:
            self.work(self.world, self)
        except Crash:
            return
        except Failure as failure:
            self.failure = failure
        self.ended = True


@dataclass
class Move:
    """The alias champion as it was set: by whom, from where, to where, and when; and from where as announced."""

    by: str
    before: str
    version: str
    at: int
    by_gate: bool = False
    announced: str = ""


@dataclass
class World:
    """Everything that exists, and what has happened.

    Attributes:
        levels: of the versions that there are at the start, the first one champion; lower is better.
        crash_at: after which of its writes, counted over all attempts, an actor dies.
        promoters: the accounts that may move the alias; a click then counts for nothing.
    """

    levels: tuple[float, ...] = (6.0,)
    crash_at: dict[str, set[int]] = field(default_factory=dict)
    promoters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.hub = getcurrent()
        self.registry, self.objects = FakeRegistry(), MemoryObjects(self)
        self.client: Any = Client(self)
        self.store = Store(self.objects)
        self.actors: list[Actor] = []
        self.now, self.writes, self.steps = 0.0, 0, 0
        self.moves: list[Move] = []
        self.announced_at, self.announced_by_command = -1, False
        self.clicks: list[Move] = []
        self.confirmed: list[tuple[str, str]] = []  # announced moves that leave the alias where it is
        self.judged_at: dict[str, int] = {}
        self.log: list[tuple[str, Any]] = []
        self.promoted = False  # whether the command says that it moved the alias
        if self.levels:
            self.registry.create_registered_model(MODEL)
            for number, level in enumerate(self.levels):
                tags = {IDENTITY: f"old-{number}", LEVEL: str(level), registry.REGISTERED: "old"}
                self.registry.create_model_version(MODEL, "", tags=tags)
            self.registry.set_registered_model_alias(MODEL, registry.CHAMPION, "1")
            self.registry.set_registered_model_tag(MODEL, registry.LAST_CHAMPION, "1")

    # Events

    def step(self, actor: Actor) -> None:
        """Lets an actor make its next call, and continues it up to the following one."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise Violation(f"{actor.name} makes no progress: {actor.pending}")
        if actor.waits_since == self.writes:  # no other actor had anything to do
            self.now += 0.5
        self.log.append((actor.name, actor.pending))
        actor.thread.switch()

    def call(self, label: Any, *, write: bool, act: Callable[[], Any], fenced: bool = False) -> Any:
        """A call of the current actor, made when it is its turn."""
        actor: Actor = getcurrent().actor
        if actor.crashed:
            raise Crash
        actor.pending, actor.fenced_write = label, fenced
        self.hub.switch()
        result = act()
        if write:
            self.writes += 1
            actor.writes += 1
            if actor.writes in self.crash_at.get(actor.name, ()):
                self.log.append((actor.name, "dies"))
                actor.crashed = True
                raise Crash
        return result

    def sleep(self, seconds: float) -> None:
        actor: Actor = getcurrent().actor
        if actor.crashed:
            raise Crash
        actor.pending, actor.waits_since, actor.fenced_write = "wait", self.writes, False
        self.hub.switch()
        actor.waits_since = None

    def click(self, version: str) -> None:
        """A person sets the alias to a version in MLflow's user interface."""
        before = self.champion
        self.registry.set_registered_model_alias(MODEL, registry.CHAMPION, version)
        self.writes += 1
        self.log.append(("a person", ("click", version)))
        self.clicks.append(Move("person", before, version, self.writes))
        self.moves.append(self.clicks[-1])

    def doubt(self, actor: Actor) -> None:
        """From now on, other actors consider a run as dead."""
        self.log.append((actor.name, "is declared dead"))
        self.writes += 1
        actor.doubted = actor.ever_doubted = True

    # The building blocks of actors

    def lock(self, store: Store, model: str) -> Lock:
        lock = model_lock.model_lock(store, model)
        return dataclasses.replace(lock, alive=self.alive, stale_after=3.0, sleep=self.sleep, clock=lambda: self.now)

    def alive(self, owner: str) -> bool | None:
        """As the heartbeats would say; a command has none."""
        return next((actor.alive for actor in self.actors if actor.name == owner), None)

    @property
    def champion(self) -> str:
        return self.registry.models[MODEL].aliases.get(registry.CHAMPION, "") if MODEL in self.registry.models else ""

    def level(self, version: str) -> float:
        return float(self.registry.models[MODEL].versions[version].tags[LEVEL])

    def before_call(self, method: str, *args: Any) -> None:
        """Records a call directly before it is made."""
        actor: Actor = getcurrent().actor
        if method == "get_model_version_by_alias" and args[0] == registry.CHAMPION:
            actor.read_at = self.writes
        elif method == "set_registered_model_alias" and args[0] == registry.CHAMPION:
            self._move(actor, args[1])
        elif method == "set_registered_model_tag" and args[0] == ANNOUNCED:
            self.announced_at, self.announced_by_command = self.writes + 1, actor.name.startswith("wikigpt")
            before, version = args[1].split(":")[:2]
            if before == version:
                self.confirmed.append((before, version))
        elif method == "set_model_version_tag" and args[1] == registry.VERDICT:
            self.judged_at[args[0]] = actor.read_at

    def _move(self, actor: Actor, version: str) -> None:
        """Checks a move of the alias champion that a run or a command is about to make."""
        before, tags = self.champion, self.registry.models[MODEL].tags
        by_gate, origin = not self.announced_by_command, tags.get(ANNOUNCED, "").partition(":")[0]
        self.moves.append(Move(actor.name, before, version, self.writes, by_gate=by_gate, announced=origin))
        if before == version or any(click.at > actor.read_at for click in self.clicks):
            return  # the moment between reading the alias and moving it
        announced = self.registry.models[MODEL].tags.get(ANNOUNCED)
        if not f"{announced}:".startswith(f"{before}:{version}:"):
            raise Violation(f"{actor.name} moves the alias from {before} to {version}, announced was {announced}")
        since = [click for click in self.clicks if click.at > self.announced_at]
        moved = [move for move in self.moves[:-1] if move.at >= self.announced_at and move.by != "person"]
        recorded = self.registry.models[MODEL].tags.get(registry.LAST_CHAMPION) == version
        # A run moved the alias and died before it wrote that down; then a person put it back: see the documentation.
        if since and not (moved and not recorded and since[-1].version == before):
            raise Violation(f"{actor.name} moves the alias to {version}, though a person chose {before} since")
        if (
            before
            and not self.announced_by_command
            and not self.promoters
            and self.level(version) >= self.level(before)
        ):
            raise Violation(f"{actor.name} moves the alias from {before} to {version}, which is worse")


class Client:
    """The registry for one actor."""

    def __init__(self, world: World):
        self._world = world
        self.tracking_uri = "memory"

    def __getattr__(self, method: str) -> Any:
        world = self._world
        answer = getattr(world.registry, method)
        writes = not method.startswith(_READS)

        def call(*args: Any, **kwargs: Any) -> Any:
            def act() -> Any:
                self._world.before_call(method, *args[1:])
                return answer(*args, **kwargs)

            fenced = writes and not method.startswith("create_")
            return world.call((method, *args[1:3]), write=writes, act=act, fenced=fenced)

        return call


class MemoryObjects:
    """Object storage in memory, of which each call is a step."""

    uri, max_concurrency, single_part_limit, keeps_versions = "memory", 1, 0, False

    def __init__(self, world: World):
        self.world = world
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.world.call(("get", key), write=False, act=lambda: self.kept.get(key))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        def act() -> bool:
            if if_absent and key in self.kept:
                return False
            self.kept[key] = data
            return True

        return self.world.call(("put", key), write=True, act=act)

    def replace(self, key: str, data: bytes) -> None:
        self.world.call(("replace", key), write=True, act=lambda: self.kept.update({key: data}))

    def entries(self, prefix: str) -> Iterator[Entry]:
        def act() -> list[Entry]:
            return [Entry(key, len(data), 0.0) for key, data in self.kept.items() if key.startswith(prefix)]

        return iter(self.world.call(("list", prefix), write=False, act=act))

    def delete(self, key: str) -> None:
        self.world.call(("delete", key), write=True, act=lambda: self.kept.pop(key, None))

    def upload(self, key: str, path: Path, fact: FileFact) -> None:
        raise NotImplementedError

    def download(self, key: str, path: Path, fact: FileFact) -> bool:
        raise NotImplementedError

    def size(self, key: str) -> int | None:
        raise NotImplementedError

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        raise NotImplementedError

    def delete_version(self, old: OldVersion) -> None:
        raise NotImplementedError


def registration(identity: str, level: float) -> Callable[[World, Actor], None]:
    """The actions of the step `register` under the lock, for a model with these weights and this level."""

    def judge(champion: Any) -> Verdict:
        if champion is None or level < float(champion.tags[LEVEL]):
            return Verdict("promote", "Better.", alias="champion")
        return Verdict("keep", "Worse.", alias="challenger")

    def work(world: World, actor: Actor) -> None:
        with world.lock(world.store, MODEL).held(actor.name, patience=1e9) as held:
            client = model_lock.fenced(world.client, held.check)

            def make() -> str:
                with suppress(MlflowException):  # like `mlflow.register_model`
                    world.client.create_registered_model(MODEL)
                tags = {IDENTITY: identity, LEVEL: str(level)}
                return str(world.client.create_model_version(MODEL, "", tags=tags).version)

            version = model_lock.register_once(world.client, held.check, MODEL, identity, make)
            if not registry.is_complete(client.get_model_version(MODEL, version)):
                promotion.decide_alias(client, MODEL, version, judge, world.promoters)
                client.set_model_version_tag(MODEL, version, registry.REGISTERED, actor.name)

    work.identity, work.level = identity, level  # type: ignore[attr-defined]
    return work
