"""The lock: of all runs that want a name in the store, one holds it.

A lock is a row of records with ascending numbers. Each is made by a write that succeeds only where there is none, which
is all that is asked of the storage, and the last one counts:

    claims/locks/<name>/<number>.json     {"run": …, "nonce": …, "renewed": …, "released": …}

- To acquire it is to make the record after the last one, where that was released or its run is dead, and then to find
  it the last one still. The nonce tells who made a record where the answer to the write was lost.
- The last record stays when the lock is released, so no number is given out twice: a run that was slow to act on what
  it saw makes a record that is taken, or one that is not the last. See `idle` for when it may go.
- A run that was taken for dead and lives does not notice by itself. It must `check` before whatever it writes under the
  lock; what remains is a process that is stopped between the check and the write for as long as it takes to be taken
  for dead.
- The owner of a lock is a pipeline run. A retry of its step acquires anew, and the attempt before it has lost the lock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.objects import Entry
from components.shared.storage.store import Store

_LOCKS = "locks/"
_PAUSE = 0.5  # seconds


@dataclass(frozen=True)
class Record:
    """What a lock says of its last holder.

    Attributes:
        number: of the record among those of the lock.
        owner: the pipeline run.
        nonce: of the attempt that made the record.
        renewed: how often the holder has renewed it.
        released: whether the holder has given it back.
    """

    number: int
    owner: str
    nonce: str
    renewed: int = 0
    released: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"run": self.owner, "nonce": self.nonce, "renewed": self.renewed, "released": self.released}


@dataclass(frozen=True)
class Lock:
    """A lock by its name; nothing is asked of the store before the first call.

    Attributes:
        store: where it is kept.
        name: of the lock, with `/` between parts.
        alive: whether a run is alive; None where that is not known. A holder of whom it is not known is taken for dead
            when it has not renewed the lock for `stale_after` seconds by the clock of the one who waits.
        doing: what the holder does, for people: "The run X is …".
        remedy: for whoever does not get it.
        stale_after: see `alive`.
        sleep, clock: of this machine.
    """

    store: Store
    name: str
    alive: Callable[[str], bool | None]
    doing: str
    remedy: str
    stale_after: float = 60.0
    sleep: Callable[[float], object] = field(default=time.sleep, repr=False)
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)

    def acquire(self, owner: str, *, patience: float = 0.0) -> Held:
        """Takes the lock; that of a dead run, or of an earlier attempt of the same run, is taken over.

        Args:
            owner: the pipeline run.
            patience: seconds to wait for another run that holds it.

        Raises:
            Failure: another run that is alive holds it.
        """
        nonce, deadline, waiting = secrets.token_hex(8), self.clock() + patience, _Waiting(self)
        while True:
            last = self.last()
            if last is None or last.released or last.owner == owner or waiting.finds_dead(last):
                mine = Record(0 if last is None else last.number + 1, owner, nonce)
                if self._make(mine) and self._number() == mine.number:
                    self._remove_before(mine.number)
                    dead = last is not None and not last.released and last.owner != owner
                    return Held(self, mine, before=last.owner if last and dead else None)
            elif self.clock() >= deadline:
                raise self._busy(last.owner, waited=patience > 0)
            else:
                self.sleep(_PAUSE)

    @contextmanager
    def held(self, owner: str, *, patience: float = 0.0) -> Iterator[Held]:
        """Holds the lock for the length of the block, see `acquire`."""
        held = self.acquire(owner, patience=patience)
        try:
            yield held
        finally:
            with suppress(Exception):  # what was done under the lock is done; others wait until this run is over
                held.release()

    def refuse(self, owner: str) -> None:
        """Looks whether the lock could be had.

        Raises:
            Failure: another run that is alive holds it.
        """
        last = self.last()
        if last and not last.released and last.owner != owner and self.alive(last.owner) is not False:
            raise self._busy(last.owner, waited=False)

    def check(self, number: int) -> None:
        """Looks whether the record of a number is still the last one.

        Raises:
            Failure: another attempt has taken over.
        """
        if self._number() != number:
            last = self.last()
            raise Failure(
                f"This run was taken for dead, and the run {last.owner if last else 'that took over'} is {self.doing}",
                where=self._where,
                remedy=self.remedy,
            )

    def last(self) -> Record | None:
        """The last record, of a holder alive or dead or one who has released it; None where there never was one."""
        while (number := self._number()) is not None:
            if found := self.store.claimed(self._key(number)):
                return Record(
                    number, found["run"], found["nonce"], found.get("renewed", 0), found.get("released", False)
                )
            self.sleep(_PAUSE)  # a later one was made since, and this one removed
        return None

    def _make(self, record: Record) -> bool:
        return self.store.claim(self._key(record.number), record.to_json()).get("nonce") == record.nonce

    def _number(self) -> int | None:
        return max(self._numbers(), default=None)

    def _numbers(self) -> list[int]:
        rest = (name.removeprefix(self._prefix) for name in self.store.claims(self._prefix))
        return [int(number) for number in rest if number.isdigit()]  # the others are of locks below this one

    def _remove_before(self, number: int) -> None:
        for earlier in self._numbers():
            if earlier < number:
                self.store.release(self._key(earlier))

    def _key(self, number: int) -> str:
        return f"{self._prefix}{number:08d}"

    @property
    def _prefix(self) -> str:
        return f"{_LOCKS}{self.name}/"

    @property
    def _where(self) -> str:
        return f"{self.store.uri}, lock {self.name}"

    def _busy(self, owner: str, *, waited: bool) -> Failure:
        return Failure(
            f"The run {owner} is {self.doing} already",
            where=self._where,
            remedy=self.remedy,
            exit_code=ExitCode.TIMED_OUT if waited else ExitCode.FAILED,
        )


@dataclass
class Held:
    """A lock that was acquired.

    Attributes:
        lock: which.
        record: of this attempt.
        before: the dead run that it was taken over from, or None.
    """

    lock: Lock
    record: Record
    before: str | None

    @property
    def number(self) -> int:
        """Names this attempt to `Lock.check`, also in another process."""
        return self.record.number

    def check(self) -> None:
        """Looks whether the lock is still ours; to be called before each write under it.

        Raises:
            Failure: another attempt has taken over.
        """
        self.lock.check(self.number)

    def renew(self) -> None:
        """Shows whoever waits that the holder is at work.

        Raises:
            Failure: another attempt has taken over.
        """
        self._write(renewed=self.record.renewed + 1)

    def release(self) -> None:
        """Gives the lock back.

        Raises:
            Failure: another attempt has taken over.
        """
        self._write(released=True)

    def _write(self, **changes: Any) -> None:
        self.check()
        self.record = Record(**{**vars(self.record), **changes})
        self.lock.store.put_record(self.lock._key(self.number), self.record.to_json())


class _Waiting:
    """What one who waits for a lock has seen of its holder."""

    def __init__(self, lock: Lock):
        self.lock, self.seen, self.since = lock, None, 0.0

    seen: Record | None

    def finds_dead(self, last: Record) -> bool:
        alive = self.lock.alive(last.owner)
        if alive is not None:
            return not alive
        if last != self.seen:
            self.seen, self.since = last, self.lock.clock()
        return self.lock.clock() - self.since >= self.lock.stale_after


def idle(store: Store, living: Collection[str]) -> list[Entry]:
    """The records of locks that are released, or whose owner is none of the living; the keys of the entries are names.

    The last record of a lock tells the next holder its number, so it may be removed (by `Store.release`) only when
    nobody can be acting on what it said any more: after days.
    """
    return [
        entry
        for entry in store.records(_LOCKS)
        if (record := store.claimed(entry.key)) and (record.get("released") or record["run"] not in living)
    ]


def locks(store: Store, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and owner of every lock below a prefix that is not released, also where its owner is dead."""
    last = {name.rpartition("/")[0]: name for name in store.claims(_LOCKS + prefix)}
    for lock, name in last.items():
        if (record := store.claimed(name)) and not record.get("released"):
            yield lock.removeprefix(_LOCKS), record["run"]
