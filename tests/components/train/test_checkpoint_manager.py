"""Checkpoints in the store: which are removed, which are skipped, and which are kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from components.shared.base.failure import Failure, Interrupted
from components.shared.storage.store import Store
from components.train.checkpoint import Progress, State
from components.train.checkpoint_manager import CheckpointManager, describe_nearest, load_latest, remove_others
from components.train.optim import WeightEMA
from components.train.settings import CheckpointSettings

TRAINING, OTHER = "a" * 32, "b" * 32
IDENTITY = {"train.hidden_size": 8}


def keep(store: Store, *, step: int, training: str = TRAINING, run: str = "run-1", width: int = 8) -> None:
    """A checkpoint with the same best weights as every other one."""
    weights: dict[str, torch.Tensor] = {"weight": nn.Parameter(torch.full((4,), float(step)))}
    state = State(weights, [], WeightEMA(weights, None), Progress(step=step), best={"weight": torch.ones(4)})
    facts = {"run": run, "identity": {"train.hidden_size": width}}
    with CheckpointManager(store, training, CheckpointSettings(), facts, check_lock=lambda: None) as manager:
        manager.save(state)


def state_of(step: int) -> State:
    weights: dict[str, torch.Tensor] = {"weight": nn.Parameter(torch.full((4,), float(step)))}
    return State(weights, [], WeightEMA(weights, None), Progress(step=step))


def manager_of(store: Store, **values: Any) -> CheckpointManager:
    """A manager that saves every 100 steps by default."""
    settings = CheckpointSettings(**{"every": 100, **values.pop("settings", {})})
    facts = {"run": "run-1", "identity": IDENTITY}
    return CheckpointManager(store, TRAINING, settings, facts, **{"check_lock": lambda: None, **values})


class Gate:
    """Delays the publications to a store until it is opened, or makes them fail."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch):
        self.opened, self.failure, self.publish = threading.Event(), None, store.publish
        self.began = 0
        monkeypatch.setattr(store, "publish", self)

    def __call__(self, *args: Any, **named: Any) -> Any:
        self.began += 1
        assert self.opened.wait(30)
        if self.failure:
            raise self.failure
        return self.publish(*args, **named)


@pytest.fixture
def gate(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate(store, monkeypatch)
    yield gate
    gate.opened.set()


AWAY = Failure("The store is away", where="s3://bucket", remedy="look at it")


def damage(store: Store, name: str) -> None:
    store.objects.put(f"manifests/checkpoint/{name}.json", b"<html>")


@pytest.mark.parametrize(
    "failure",
    [
        Interrupted("The step was asked to stop", where="SIGTERM"),
        Failure("The disk is full", where="/tmp", remedy="make room"),
    ],
)
def test_an_error_other_than_damage_removes_no_checkpoint(
    store: Store, failure: Failure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(store, step=1)
    keep(store, step=2)
    before = store.names("checkpoint")

    def fails(*args: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(store, "fetch", fails)
        with pytest.raises(Failure, match=failure.what):
            load_latest(store, TRAINING, IDENTITY, tmp_path / "back")
    assert store.names("checkpoint") == before
    assert load_latest(store, TRAINING, IDENTITY, tmp_path / "back") == tmp_path / "back" / before[-1]


def test_damage_to_one_checkpoint_leaves_the_other_whole(store: Store, tmp_path: Path) -> None:
    """Also if the weights did not change between them."""
    keep(store, step=1)
    keep(store, step=2)
    older, latest = store.names("checkpoint")
    manifest = store.manifest("checkpoint", latest)
    assert manifest
    digest = manifest.files["best.safetensors"].sha256
    blob = tmp_path / "store" / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(bytes(byte ^ 1 for byte in blob.read_bytes()))
    assert load_latest(store, TRAINING, IDENTITY, tmp_path / "back") == tmp_path / "back" / older
    assert store.names("checkpoint") == [older]


def test_checkpoints_that_are_all_damaged_let_a_training_begin_anew(store: Store, tmp_path: Path) -> None:
    keep(store, step=1)
    keep(store, step=2)
    for name in store.names("checkpoint"):
        damage(store, name)
    assert load_latest(store, TRAINING, IDENTITY, tmp_path / "back") is None
    assert store.names("checkpoint") == []


def test_a_damaged_checkpoint_does_not_stop_those_that_follow(store: Store) -> None:
    keep(store, step=1)
    keep(store, step=2)
    damage(store, f"{TRAINING}/00000002")
    keep(store, step=3)
    keep(store, step=4)
    assert store.names("checkpoint") == [f"{TRAINING}/00000003", f"{TRAINING}/00000004"]


def test_a_damaged_checkpoint_of_another_training_stops_none(store: Store, tmp_path: Path) -> None:
    keep(store, step=1, training=OTHER, width=9)
    keep(store, step=1, training="c" * 32)
    damage(store, f"{'c' * 32}/00000001")
    said = describe_nearest(store, TRAINING, IDENTITY)
    assert said and "train.hidden_size: 9 then, 8 now" in said
    damage(store, f"{OTHER}/00000001")
    assert describe_nearest(store, TRAINING, IDENTITY) is None


def test_a_forced_run_keeps_its_own_checkpoints_alone(store: Store) -> None:
    keep(store, step=1, run="run-1")
    keep(store, step=2, run="run-2")
    keep(store, step=1, training=OTHER)
    remove_others(store, TRAINING, "run-2")
    assert store.names("checkpoint") == [f"{TRAINING}/00000002", f"{OTHER}/00000001"]
    damage(store, f"{TRAINING}/00000002")
    remove_others(store, TRAINING, "run-2")
    assert store.names("checkpoint") == [f"{OTHER}/00000001"]


def test_a_checkpoint_is_due_by_steps_or_when_the_time_is_over(store: Store) -> None:
    clock = [1000.0]
    with manager_of(store, settings={"every_seconds": 60}, now=lambda: clock[0]) as manager:
        assert [step for step in range(1, 301) if manager.should_save(step)] == [100, 200, 300]
        clock[0] += 59.9
        assert not manager.should_save(301)
        clock[0] += 0.1
        assert manager.should_save(302)
        manager.save(state_of(302), wait=True)
        assert not manager.should_save(303)
        clock[0] += 30
        manager.save(state_of(304), wait=True)  # every checkpoint restarts the clock
        clock[0] += 59
        assert not manager.should_save(305)
        clock[0] += 1
        assert manager.should_save(306)


def test_without_an_interval_in_seconds_the_clock_triggers_no_checkpoint(store: Store) -> None:
    clock = [0.0]
    with manager_of(store, settings={"every": None}, now=lambda: clock[0]) as manager:
        clock[0] = 1e9
        assert not any(manager.should_save(step) for step in range(1, 300))


def test_training_continues_while_a_checkpoint_is_published(store: Store, gate: Gate) -> None:
    clock = [0.0]
    with manager_of(store, settings={"every_seconds": 1}, now=lambda: clock[0]) as manager:
        manager.save(state_of(1))
        assert (store.names("checkpoint"), manager.saved) == ([], None)
        clock[0] = 100
        assert not manager.should_save(2), "by time none while one is published"
        assert manager.should_save(100), "by steps in any case"
        gate.opened.set()
    assert (store.names("checkpoint"), manager.saved) == ([f"{TRAINING}/00000001"], 1)


def test_the_published_state_is_that_of_its_step(store: Store, gate: Gate, tmp_path: Path) -> None:
    state = state_of(1)
    with manager_of(store) as manager:
        manager.save(state)
        with torch.no_grad():
            state.weights["weight"].fill_(-1)
        state.progress.step = 2
        gate.opened.set()
    found = load_latest(store, TRAINING, IDENTITY, tmp_path / "back")
    assert found and found.name == "00000001"
    assert load_file(found / "weights.safetensors")["weight"].tolist() == [1.0] * 4


def test_at_most_one_checkpoint_is_published_at_a_time(store: Store, gate: Gate) -> None:
    with manager_of(store) as manager:
        manager.save(state_of(1))
        second = threading.Thread(target=manager.save, args=(state_of(2),))
        second.start()
        second.join(0.1)
        assert second.is_alive() and gate.began == 1
        gate.opened.set()
        second.join(30)
    assert gate.began == 2 and manager.saved == 2


@pytest.mark.parametrize("next_call", ["due", "keep", "end"])
def test_a_failure_to_publish_is_raised_at_the_next_call(store: Store, gate: Gate, next_call: str) -> None:
    gate.failure = AWAY
    gate.opened.set()
    manager = manager_of(store)
    with pytest.raises(Failure, match="The store is away"), manager:
        manager.save(state_of(1))
        wait([manager._in_flight])  # type: ignore[list-item]
        if next_call == "due":
            manager.should_save(3)
        elif next_call == "keep":
            manager.save(state_of(2))
    assert manager.saved is None


def test_the_last_checkpoint_is_saved_even_if_the_previous_one_failed(
    store: Store, gate: Gate, capsys: pytest.CaptureFixture[str]
) -> None:
    gate.failure = AWAY
    with manager_of(store) as manager:
        manager.save(state_of(1))
        gate.opened.set()
        wait([manager._in_flight])  # type: ignore[list-item]
        gate.failure = None
        manager.save(state_of(2), wait=True)
        assert (store.names("checkpoint"), manager.saved) == ([f"{TRAINING}/00000002"], 2)
    assert "warning: a checkpoint could not be published: The store is away" in capsys.readouterr().out


def test_a_checkpoint_error_does_not_hide_the_error_of_training(store: Store, gate: Gate) -> None:
    gate.failure = AWAY
    with pytest.raises(ZeroDivisionError), manager_of(store) as manager:
        manager.save(state_of(1))
        gate.opened.set()
        raise ZeroDivisionError
    assert manager.saved is None


def test_a_checkpoint_that_is_being_published_outlives_the_failure_of_training(store: Store, gate: Gate) -> None:
    threading.Timer(0.1, gate.opened.set).start()
    with pytest.raises(ZeroDivisionError), manager_of(store) as manager:
        manager.save(state_of(1))
        raise ZeroDivisionError
    assert (store.names("checkpoint"), manager.saved) == ([f"{TRAINING}/00000001"], 1)


def test_a_run_that_lost_its_training_publishes_nothing(store: Store) -> None:
    def lost() -> None:
        raise Failure("The run other is training exactly this already", where="store", remedy="wait")

    with pytest.raises(Failure, match="The run other"), manager_of(store, check_lock=lost) as manager:
        manager.save(state_of(1))
    assert store.names("checkpoint") == []


def test_nothing_of_a_checkpoint_stays_on_the_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with manager_of(store) as manager:
        manager.save(state_of(1))
    monkeypatch.setattr(
        "components.train.checkpoint_manager.write_state",
        lambda *_: (_ for _ in ()).throw(Failure("full", where="", remedy="")),
    )
    with pytest.raises(Failure, match="full"), manager_of(store) as manager:
        manager.save(state_of(2))
    assert not list(scratch.iterdir())
