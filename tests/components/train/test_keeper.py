"""Checkpoints in the store: what is removed, what is passed over, and what is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from components.shared.failure import Failure, Interrupted
from components.shared.storage.store import Store, open_store
from components.train.checkpoint import Progress, State
from components.train.keeper import StoreKeeper, forget_others, nearest_other, newest
from components.train.optimizer import Average
from components.train.settings import CheckpointSettings

TRAINING, OTHER = "a" * 32, "b" * 32
IDENTITY = {"train.width": 8}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def keep(store: Store, *, step: int, training: str = TRAINING, run: str = "run-1", width: int = 8) -> None:
    """A checkpoint whose best weights are those of every other one."""
    weights: dict[str, torch.Tensor] = {"weight": nn.Parameter(torch.full((4,), float(step)))}
    state = State(weights, [], Average(weights, None), Progress(step=step), best={"weight": torch.ones(4)})
    facts = {"run": run, "identity": {"train.width": width}}
    StoreKeeper(store, training, CheckpointSettings(), facts, still_ours=lambda: None).keep(state)


def damage(store: Store, name: str) -> None:
    store.objects.put(f"manifests/checkpoint/{name}.json", b"<html>")


@pytest.mark.parametrize(
    "failure",
    [
        Interrupted("The step was told to stop", where="SIGTERM"),
        Failure("The disk is full", where="/tmp", remedy="make room"),
    ],
)
def test_what_is_no_damage_costs_no_checkpoint(
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
            newest(store, TRAINING, IDENTITY, tmp_path / "back")
    assert store.names("checkpoint") == before
    assert newest(store, TRAINING, IDENTITY, tmp_path / "back") == tmp_path / "back" / before[-1]


def test_damage_to_one_checkpoint_leaves_the_other_whole(store: Store, tmp_path: Path) -> None:
    """Even to weights that did not change between them."""
    keep(store, step=1)
    keep(store, step=2)
    older, latest = store.names("checkpoint")
    manifest = store.manifest("checkpoint", latest)
    assert manifest
    digest = manifest.files["best.safetensors"].sha256
    blob = tmp_path / "store" / "blobs" / digest[:2] / digest
    blob.chmod(0o644)
    blob.write_bytes(bytes(byte ^ 1 for byte in blob.read_bytes()))
    assert newest(store, TRAINING, IDENTITY, tmp_path / "back") == tmp_path / "back" / older
    assert store.names("checkpoint") == [older]


def test_checkpoints_that_are_all_damaged_let_a_training_begin_anew(store: Store, tmp_path: Path) -> None:
    keep(store, step=1)
    keep(store, step=2)
    for name in store.names("checkpoint"):
        damage(store, name)
    assert newest(store, TRAINING, IDENTITY, tmp_path / "back") is None
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
    said = nearest_other(store, TRAINING, IDENTITY)
    assert said and "train.width: 9 then, 8 now" in said
    damage(store, f"{OTHER}/00000001")
    assert nearest_other(store, TRAINING, IDENTITY) is None


def test_a_forced_run_keeps_its_own_checkpoints_alone(store: Store) -> None:
    keep(store, step=1, run="run-1")
    keep(store, step=2, run="run-2")
    keep(store, step=1, training=OTHER)
    forget_others(store, TRAINING, "run-2")
    assert store.names("checkpoint") == [f"{TRAINING}/00000002", f"{OTHER}/00000001"]
    damage(store, f"{TRAINING}/00000002")
    forget_others(store, TRAINING, "run-2")
    assert store.names("checkpoint") == [f"{OTHER}/00000001"]
