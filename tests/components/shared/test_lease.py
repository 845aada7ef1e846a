"""Two runs never train the same at the same time."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from components.shared.failure import Failure
from components.shared.lease import check_lease, lease, leases, refuse_a_second_training
from components.shared.liveness import end_heartbeat, heartbeat
from components.shared.storage.store import Store, open_store

TRAINING = "f" * 32


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_it_is_held_for_the_block_and_then_free(store: Store) -> None:
    with heartbeat(store, "one"), lease(store, TRAINING, "one"):
        check_lease(store, TRAINING, "one")
        refuse_a_second_training(store, TRAINING, "one")
        with pytest.raises(Failure, match="The run one is training exactly this already"):
            refuse_a_second_training(store, TRAINING, "two")
        with (
            pytest.raises(Failure, match="The run one is training exactly this already"),
            lease(store, TRAINING, "two"),
        ):
            pass
        assert store.claims("heartbeats/") == ["heartbeats/one"], "which is no lease"
        assert list(leases(store)) == [(TRAINING, "one")]
    assert store.claims("training/") == []
    assert list(leases(store)) == []


def test_a_run_that_is_tried_again_holds_it_still(store: Store) -> None:
    store.claim(f"training/{TRAINING}/000000", {"run": "one"})
    with heartbeat(store, "one"), lease(store, TRAINING, "one"):
        assert store.claims("training/") == [f"training/{TRAINING}/000000"]
    assert store.claims("training/") == []


def test_of_many_that_find_a_holder_dead_one_takes_over(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.claim(f"training/{TRAINING}/000000", {"run": "dead"})
    end_heartbeat(store, "dead")
    runs = [f"run-{number}" for number in range(8)]
    together, over = threading.Barrier(len(runs)), threading.Barrier(len(runs))
    claim, won, lost = store.claim, [], []

    def all_at_once(name: str, record: dict) -> dict:
        if name.endswith("000001"):
            together.wait(20)
        return claim(name, record)

    monkeypatch.setattr(store, "claim", all_at_once)

    def take(run: str) -> None:
        try:
            with lease(store, TRAINING, run):
                won.append(run)
                over.wait(20)
        except Failure as failure:
            lost.append(str(failure))
            over.wait(20)

    for run in runs:
        store.put_record(f"heartbeats/{run}", store.claimed("heartbeats/dead") | {"ended": False})  # type: ignore[operator]
    threads = [threading.Thread(target=take, args=(run,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert len(lost) == 7 and all(f"The run {won[0]} is training" in sentence for sentence in lost)
    assert store.claims("training/") == []


def test_a_run_that_was_taken_for_dead_learns_it_and_leaves_the_lease_alone(store: Store) -> None:
    with lease(store, TRAINING, "one"):
        store.claim(f"training/{TRAINING}/000001", {"run": "two"})
        with pytest.raises(Failure, match="The run two is training exactly this already"):
            check_lease(store, TRAINING, "one")
    assert store.claimed(f"training/{TRAINING}/000001") == {"run": "two"}
    check_lease(store, TRAINING, "two")
