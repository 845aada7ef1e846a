"""Trained models in the store: each is stored under the digest of its weights and found by its reuse key.

    manifests/model/<weights digest>.json       the model; other weights are another model, even with the same key
    claims/models/<reuse key>/<refined key>     {"weights_digest": ..., "numerics": ...}: the result of a training

A repeated training that ends in other weights therefore changes no earlier model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.base.failure import Failure
from components.shared.reuse.keys import refined
from components.shared.storage.manifest import Manifest, digest_of
from components.shared.storage.store import Store

KIND = "model"
_PREFIX = "models/"
_MIXED = "mixed-"


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        reuse_key: the reuse key of the training.
        refined_key: the key refined by the numerics; a training that was resumed with other numerics has a unique name.
        weights_digest: the digest of the weights.
    """

    reuse_key: str
    refined_key: str
    weights_digest: str

    @property
    def record(self) -> str:
        """The name of the record in the store."""
        return f"{_PREFIX}{self.reuse_key}/{self.refined_key}"


def weights_digest(model: Manifest) -> str:
    """sha256 over the names and digests of the weight files of a model: equal weights have equal digests.

    Raises:
        Failure: the folder has no weights.
    """
    weights = {name: fact.sha256 for name, fact in model.files.items() if name.endswith(".safetensors")}
    if not weights:
        raise Failure(
            "The model has no weights: none of its files ends in .safetensors",
            where=", ".join(sorted(model.files)) or "an empty folder",
            remedy="train again; the step train writes them",
        )
    return digest_of(weights)


def publish_model(store: Store, folder: Path, model: Manifest, reuse_key: str) -> str:
    """Publishes a trained model and records it under its reuse key.

    Args:
        store: the store.
        folder: the folder of the model.
        model: its manifest; the metadata has the numerics and whether they changed during the training.
        reuse_key: the reuse key of the training.

    Returns:
        The digest of the weights.
    """
    digest, numerics = weights_digest(model), model.metadata["numerics"]
    store.publish(folder, KIND, digest)
    # A model that was resumed with other numerics must not be reused as the result of these numerics.
    name = f"{_MIXED}{digest}" if model.metadata.get("numerics_changed") else refined(reuse_key, numerics)
    store.put_record(f"{_PREFIX}{reuse_key}/{name}", {"weights_digest": digest, "numerics": numerics})
    return digest


def training_results(store: Store, reuse_key: str = "") -> Iterator[TrainingResult]:
    """The results of the trainings with a reuse key, or of all; the models themselves may be deleted."""
    for name in store.claims(f"{_PREFIX}{reuse_key}/" if reuse_key else _PREFIX):
        if record := store.claimed(name):
            key, _, refined_key = name.removeprefix(_PREFIX).partition("/")
            yield TrainingResult(key, refined_key, record["weights_digest"])


def fetch_result(store: Store, reuse_key: str, numerics: dict[str, Any], folder: Path) -> Manifest | None:
    """Downloads the model of a training with this reuse key and these numerics; None if there is none."""
    record = store.claimed(f"{_PREFIX}{reuse_key}/{refined(reuse_key, numerics)}")
    return fetch_model(store, record["weights_digest"], folder) if record else None


def fetch_model(store: Store, digest: str, folder: Path, *, formerly: str = "") -> Manifest | None:
    """Downloads the model with exactly these weights; None if the store does not have it.

    Args:
        store: the store.
        digest: the digest of the weights.
        folder: the target folder.
        formerly: its name in stores of schema 1, the fingerprint of its training.
    """
    for name in filter(None, (digest, formerly)):
        model = store.manifest(KIND, name)
        if model and weights_digest(model) == digest and store.fetch(KIND, name, folder):
            return model
    return None
