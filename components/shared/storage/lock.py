"""A lock in the store: at most one run at a time holds it.

A lock is a sequence of records with ascending numbers, of which the last one counts. Each record is created by a
conditional write, and the lock needs nothing else of the storage:

    claims/locks/<name>/<number>.json     {"run": …, "nonce": …, "renewed": …, "released": …}

- A run acquires the lock if the last record is released or its run is dead: it creates the next record and then checks
  that this record is still the last one. The nonce tells who created a record if the response to the write was lost.
- The last record is kept when the lock is released, so that no number is used twice: a run that acts late on an old
  record creates one that exists already or is not the last. `idle` says when the last record may be deleted.
- A run that was declared dead by mistake is not informed. It must call `check` before each write under the lock. A gap
  remains: a process that is suspended between the check and the write until another run declares it dead.
- The owner of a lock is a pipeline run. A retry of its step acquires the lock again, and the earlier attempt loses it.
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
    """A record of a lock.

    Attributes:
        number: the number of the record.
        owner: the pipeline run that created it.
        nonce: identifies the attempt that created it.
        renewed: the number of times that the owner has renewed the lock.
        released: whether the owner has released the lock.
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
    """A lock by its name. The constructor sends no request.

    Attributes:
        store: the store with the records.
        name: the name of the lock, with `/` between parts.
        alive: returns whether a run is alive, or None if that is unknown. An owner whose state is unknown counts as
            dead after it has not renewed the lock for `stale_after` seconds by the clock of the waiting run.
        doing: the activity of the owner, for messages: "The run X is …".
        remedy: the remedy in the failure of a run that does not acquire the lock.
        stale_after: see `alive`.
        sleep, clock: replaced in tests.
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
        """Acquires the lock; it is taken over from a dead run or from an earlier attempt of the same run.

        Args:
            owner: the pipeline run.
            patience: seconds to wait while another run holds the lock.

        Raises:
            Failure: another run that is alive holds the lock.
        """
        nonce, deadline, waiting = secrets.token_hex(8), self.clock() + patience, _Waiting(self)
        while True:
            last = self.last()
            if last is None or last.released or last.owner == owner or waiting.finds_dead(last):
                mine = Record(0 if last is None else last.number + 1, owner, nonce)
                if self._create(mine) and self._number() == mine.number:
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
            with suppress(Exception):  # the work is done, and the lock is free at the latest when this run ends
                held.release()

    def refuse(self, owner: str) -> None:
        """Fails early if the lock cannot be acquired now.

        Raises:
            Failure: another run that is alive holds the lock.
        """
        last = self.last()
        if last and not last.released and last.owner != owner and self.alive(last.owner) is not False:
            raise self._busy(last.owner, waited=False)

    def check(self, number: int) -> None:
        """Checks that the record with this number is still the last one.

        Raises:
            Failure: another attempt has taken the lock over.
        """
        if self._number() != number:
            last = self.last()
            raise Failure(
                f"This run was declared dead, and the run {last.owner if last else 'that took over'} is {self.doing}",
                where=self._where,
                remedy=self.remedy,
            )

    def last(self) -> Record | None:
        """The last record, also if its owner is dead or has released the lock; None if there is none."""
        while (number := self._number()) is not None:
            if found := self.store.claimed(self._key(number)):
                return Record(
                    number, found["run"], found["nonce"], found.get("renewed", 0), found.get("released", False)
                )
            self.sleep(_PAUSE)  # a later record was created meanwhile, and this one deleted
        return None

    def _create(self, record: Record) -> bool:
        return self.store.claim(self._key(record.number), record.to_json()).get("nonce") == record.nonce

    def _number(self) -> int | None:
        return max(self._numbers(), default=None)

    def _numbers(self) -> list[int]:
        rest = (name.removeprefix(self._prefix) for name in self.store.claims(self._prefix))
        return [int(number) for number in rest if number.isdigit()]  # other names belong to locks below this one

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
    """A lock that is held.

    Attributes:
        lock: the lock.
        record: the record of this attempt.
        before: the dead run that it was taken over from, or None.
    """

    lock: Lock
    record: Record
    before: str | None

    @property
    def number(self) -> int:
        """Identifies this attempt for `Lock.check`, also in another process."""
        return self.record.number

    def check(self) -> None:
        """Checks that this attempt still has the lock. Call it before each write under the lock.

        Raises:
            Failure: another attempt has taken the lock over.
        """
        self.lock.check(self.number)

    def renew(self) -> None:
        """Shows waiting runs that the owner is alive.

        Raises:
            Failure: another attempt has taken the lock over.
        """
        self._write(renewed=self.record.renewed + 1)

    def release(self) -> None:
        """Releases the lock.

        Raises:
            Failure: another attempt has taken the lock over.
        """
        self._write(released=True)

    def _write(self, **changes: Any) -> None:
        self.check()
        self.record = Record(**{**vars(self.record), **changes})
        self.lock.store.put_record(self.lock._key(self.number), self.record.to_json())


class _Waiting:
    """The observations of a waiting run about the owner of a lock."""

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
    """Entries for the records of locks that are released or whose owner is not in `living`; their keys are claim names.

    The next record is numbered after the last one, so the last one may be deleted (by `Store.release`) only when no
    process can still act on it: after days.
    """
    return [
        entry
        for entry in store.records(_LOCKS)
        if (record := store.claimed(entry.key)) and (record.get("released") or record["run"] not in living)
    ]


def locks(store: Store, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and owner of every lock below a prefix that is not released, even if its owner is dead."""
    last = {name.rpartition("/")[0]: name for name in store.claims(_LOCKS + prefix)}
    for lock, name in last.items():
        if (record := store.claimed(name)) and not record.get("released"):
            yield lock.removeprefix(_LOCKS), record["run"]
