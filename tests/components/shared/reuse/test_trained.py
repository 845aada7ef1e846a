"""Models are stored under the digest of their weights and found by their keys."""

from pathlib import Path

import pytest

from components.shared.base.failure import Failure
from components.shared.reuse.trained import (
    KIND,
    TrainingResult,
    fetch_model,
    fetch_result,
    publish_model,
    training_results,
    weights_digest,
)
from components.shared.storage.manifest import Manifest, write_manifest
from components.shared.storage.store import Store

CPU = {"device": "cpu", "processor": "a CPU", "threads": 2}


def make(folder: Path, weights: str, config: str = "{}", **metadata: object) -> Manifest:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(weights)
    (folder / "config.json").write_text(config)
    return write_manifest(folder, KIND, {"numerics": CPU, **metadata})


def keep(store: Store, folder: Path, weights: str, model_key: str = "k", **metadata: object) -> str:
    return publish_model(store, folder, make(folder, weights, **metadata), model_key)


def test_the_digest_is_of_weights_alone(tmp_path: Path) -> None:
    one = make(tmp_path / "a", "weights")
    assert weights_digest(one) == weights_digest(make(tmp_path / "b", "weights", config='{"a": 1}', steps=7))
    assert weights_digest(one) != weights_digest(make(tmp_path / "c", "other weights"))


def test_a_folder_without_weights_is_refused() -> None:
    with pytest.raises(Failure, match=r"none of its files ends in \.safetensors"):
        weights_digest(Manifest(KIND, {}))


def test_a_repeated_training_adds_a_model_and_replaces_none(store: Store, tmp_path: Path) -> None:
    first = keep(store, tmp_path / "a", "weights", steps=1)
    before = store.find(KIND, first)
    assert keep(store, tmp_path / "b", "weights", steps=2) == first
    second = keep(store, tmp_path / "c", "other weights")
    assert store.find(KIND, first) == before
    assert set(store.names(KIND)) == {first, second}
    found = fetch_result(store, "k", CPU, tmp_path / "fetched")
    assert found and weights_digest(found) == second


def test_a_model_is_found_by_its_model_key_and_numerics(store: Store, tmp_path: Path) -> None:
    digest = keep(store, tmp_path / "a", "weights")
    assert fetch_result(store, "k", CPU, tmp_path / "x") == store.find(KIND, digest)
    assert fetch_result(store, "k", {**CPU, "threads": 4}, tmp_path / "y") is None
    assert fetch_result(store, "other", CPU, tmp_path / "z") is None
    assert [(made.model_key, made.weights_digest) for made in training_results(store)] == [("k", digest)]
    store.forget(KIND, digest)
    assert fetch_result(store, "k", CPU, tmp_path / "gone") is None


def test_keys_with_equal_beginnings_are_distinguished(store: Store, tmp_path: Path) -> None:
    keep(store, tmp_path / "a", "weights", model_key="kk")
    assert list(training_results(store, "k")) == []


def test_a_model_that_was_resumed_with_other_numerics_is_found_by_its_weights_only(
    store: Store, tmp_path: Path
) -> None:
    digest = keep(store, tmp_path / "a", "weights", numerics_changed=True)
    assert fetch_result(store, "k", CPU, tmp_path / "x") is None
    assert list(training_results(store, "k")) == [TrainingResult("k", f"mixed-{digest}", digest)]
    assert fetch_model(store, digest, tmp_path / "y")


def test_other_weights_under_a_name_are_not_fetched(store: Store, tmp_path: Path) -> None:
    """An earlier version replaced the model of a fingerprint by that of a forced training."""
    wanted = weights_digest(make(tmp_path / "a", "weights"))
    make(tmp_path / "b", "other weights")
    store.publish(tmp_path / "b", KIND, "f" * 32)
    assert fetch_model(store, wanted, tmp_path / "x", legacy_name="f" * 32) is None
    store.publish(tmp_path / "a", KIND, "f" * 32, replace=True)
    assert fetch_model(store, wanted, tmp_path / "y", legacy_name="f" * 32) == store.find(KIND, "f" * 32)
    store.publish(tmp_path / "b", KIND, wanted)
    assert fetch_model(store, wanted, tmp_path / "z") is None
