"""Examples of the lock. Its interleavings are explored in tests/components/register/test_interleavings.py."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.lock import Lock, locks
from components.shared.storage.store import Store


@dataclass
class Runs:
    """Which runs are alive; the state of other runs is unknown. Sleeping advances the clock."""

    alive: dict[str, bool] = field(default_factory=dict)
    now: float = 0.0
    meanwhile: Callable[[], Any] = lambda: None

    def lock(self, store: Store, name: str = "a/b") -> Lock:
        return Lock(
            store,
            name,
            alive=self.alive.get,
            doing="busy",
            remedy="wait",
            sleep=self.sleep,
            clock=lambda: self.now,
        )

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()


def test_the_lock_is_released_at_the_end_of_the_block(store: Store) -> None:
    lock = Runs({"one": True, "two": True}).lock(store)
    assert lock.last() is None
    with lock.held("one") as held:
        held.check()
        lock.refuse("one")
        with pytest.raises(Failure, match="The run one is busy already") as caught:
            lock.refuse("two")
        assert caught.value.exit_code is ExitCode.FAILED
        with pytest.raises(Failure, match="The run one is busy already"):
            lock.acquire("two")
        assert list(locks(store)) == [("a/b", "one")]
        assert list(locks(store, "other/")) == []
    assert list(locks(store)) == []
    lock.refuse("two")
    with lock.held("two") as held:
        assert held.before is None


def test_the_lock_is_released_after_a_failure(store: Store) -> None:
    lock = Runs().lock(store)
    with pytest.raises(ZeroDivisionError), lock.held("one"):
        raise ZeroDivisionError
    assert lock.acquire("two").before is None


def test_one_record_remains_and_its_number_only_grows(store: Store) -> None:
    lock = Runs().lock(store)
    for number in range(4):
        with lock.held("one") as held:
            assert held.number == number
    assert store.claims("locks/") == ["locks/a/b/00000003"]


def test_a_run_waits_for_an_owner_that_is_alive(store: Store) -> None:
    runs = Runs({"one": True, "two": True})
    lock = runs.lock(store)
    held = lock.acquire("one")
    runs.meanwhile = lambda: held.release() if runs.now > 5 else None
    assert lock.acquire("two", patience=10).before is None
    assert 5 < runs.now < 10


def test_waiting_for_the_lock_times_out(store: Store) -> None:
    runs = Runs({"one": True, "two": True})
    lock = runs.lock(store)
    lock.acquire("one")
    with pytest.raises(Failure, match="The run one is busy already") as caught:
        lock.acquire("two", patience=10)
    assert caught.value.exit_code is ExitCode.TIMED_OUT
    assert 10 <= runs.now < 11


def test_the_lock_of_a_dead_run_is_taken_over(store: Store) -> None:
    runs = Runs({"one": True})
    lock = runs.lock(store)
    paused = lock.acquire("one")
    runs.alive["one"] = False
    held = lock.acquire("two")
    assert held.before == "one"
    for write in (paused.check, paused.renew, paused.release):
        with pytest.raises(Failure, match="This run was declared dead, and the run two is busy"):
            write()
    held.check()
    held.release()
    with pytest.raises(Failure, match="declared dead"):
        paused.check()


def test_a_retry_of_a_run_takes_the_lock_over_from_the_earlier_attempt(store: Store) -> None:
    lock = Runs({"one": True}).lock(store)
    attempt = lock.acquire("one")
    again = lock.acquire("one")
    assert again.before is None
    again.check()
    with pytest.raises(Failure, match="declared dead"):
        attempt.check()


def test_an_owner_of_unknown_state_is_dead_if_it_does_not_renew_the_lock(store: Store) -> None:
    runs = Runs()
    lock = runs.lock(store)
    held = lock.acquire("a person")
    with pytest.raises(Failure, match="The run a person is busy already"):
        lock.acquire("two", patience=30)
    runs.meanwhile = lambda: held.renew() if runs.now < 100 else None
    started = runs.now
    assert lock.acquire("two", patience=600).before == "a person"
    assert 100 + 59 < runs.now < 100 + 61, started


def test_only_one_of_many_runs_takes_over_the_lock_of_a_dead_owner(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [f"run-{number}" for number in range(8)]
    lock = Runs(dict.fromkeys(runs, True) | {"dead": False}).lock(store)
    lock.acquire("dead")
    together = threading.Barrier(len(runs))
    claim, won, lost = store.claim, [], []

    def all_at_once(name: str, record: dict) -> dict:
        if name.endswith("00000001"):
            together.wait(20)
        return claim(name, record)

    monkeypatch.setattr(store, "claim", all_at_once)

    def take(run: str) -> None:
        try:
            won.append(lock.acquire(run).record.owner)
        except Failure as failure:
            lost.append(str(failure))

    threads = [threading.Thread(target=take, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7 and all(f"The run {won[0]} is busy" in sentence for sentence in lost)


def test_a_lost_response_does_not_lose_the_lock(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write arrives, its response is lost, and the retry finds the record."""
    put = store.objects.put

    def lost(key: str, data: bytes, *, if_absent: bool = False) -> bool:
        put(key, data, if_absent=if_absent)
        return put(key, data, if_absent=if_absent)

    monkeypatch.setattr(store.objects, "put", lost)
    lock = Runs({"one": True}).lock(store)
    assert lock.acquire("one").number == 0


def test_a_run_that_acts_late_on_an_old_record_does_not_get_the_lock(store: Store) -> None:
    """It saw record 0 released. Before it creates its own, records 1 and 2 were created and 1 was deleted again."""
    runs = Runs({"slow": True, "one": True})
    lock = runs.lock(store)
    lock.acquire("one").release()
    claim = store.claim

    def slow(name: str, record: dict) -> dict:
        store.claim = claim  # type: ignore[method-assign]
        lock.acquire("one")
        lock.acquire("one")
        assert store.claims("locks/") == ["locks/a/b/00000002"]
        return claim(name, record)

    store.claim = slow  # type: ignore[method-assign]
    with pytest.raises(Failure, match="The run one is busy already"):
        lock.acquire("slow")
    assert lock.last().owner == "one"  # type: ignore[union-attr]


def test_locks_with_other_names_are_independent(store: Store) -> None:
    runs = Runs({"one": True})
    with runs.lock(store, "a/b").held("one"), runs.lock(store, "a/bc").held("two"), runs.lock(store, "a").held("three"):
        assert sorted(locks(store)) == [("a", "three"), ("a/b", "one"), ("a/bc", "two")]
