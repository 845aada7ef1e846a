"""Trained models in the store: each is stored under the digest of its weights and found by its model key.

    manifests/model/<weights digest>.json       the model; other weights are another model, even with the same key
    claims/models/<model key>/<model key with numerics>.json
                                                the result of a training: {"weights_digest": ..., "numerics": ...}

A repeated training that ends in other weights therefore changes no earlier model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.shared.base.failure import Failure
from components.shared.reuse.keys import with_numerics
from components.shared.storage.manifest import Manifest, digest_of
from components.shared.storage.store import Store

KIND = "model"
_PREFIX = "models/"
_MIXED = "mixed-"


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        model_key: the model key of the training.
        key_with_numerics: the model key with numerics; a unique name if the training was resumed with other numerics.
        weights_digest: the digest of the weights.
    """

    model_key: str
    key_with_numerics: str
    weights_digest: str

    @property
    def record(self) -> str:
        """The name of the record in the store."""
        return f"{_PREFIX}{self.model_key}/{self.key_with_numerics}"


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


def publish_model(store: Store, folder: Path, model: Manifest, model_key: str) -> str:
    """Publishes a trained model and records it under its model key.

    Args:
        store: the store.
        folder: the folder of the model.
        model: its manifest; the metadata has the numerics and whether they changed during the training.
        model_key: the model key of the training.

    Returns:
        The digest of the weights.
    """
    digest, numerics = weights_digest(model), model.metadata["numerics"]
    store.publish(folder, KIND, digest)
    # A model that was resumed with other numerics must not be reused as the result of these numerics.
    name = f"{_MIXED}{digest}" if model.metadata.get("numerics_changed") else with_numerics(model_key, numerics)
    store.put_record(f"{_PREFIX}{model_key}/{name}", {"weights_digest": digest, "numerics": numerics})
    return digest


def training_results(store: Store, model_key: str = "") -> Iterator[TrainingResult]:
    """The results of the trainings with a model key, or of all trainings; the models may be deleted."""
    for name in store.claims(f"{_PREFIX}{model_key}/" if model_key else _PREFIX):
        if record := store.claimed(name):
            key, _, key_with_numerics = name.removeprefix(_PREFIX).partition("/")
            yield TrainingResult(key, key_with_numerics, record["weights_digest"])


def fetch_result(store: Store, model_key: str, numerics: dict[str, Any], folder: Path) -> Manifest | None:
    """Downloads the model of a training with this model key and these numerics; None if there is none."""
    record = store.claimed(f"{_PREFIX}{model_key}/{with_numerics(model_key, numerics)}")
    return fetch_model(store, record["weights_digest"], folder) if record else None


def fetch_model(store: Store, digest: str, folder: Path, *, legacy_name: str = "") -> Manifest | None:
    """Downloads the model with exactly these weights; None if the store does not have it.

    Args:
        store: the store.
        digest: the digest of the weights.
        folder: the target folder.
        legacy_name: the name of the model in stores of schema 1, which is the fingerprint of its training.
    """
    for name in filter(None, (digest, legacy_name)):
        model = store.manifest(KIND, name)
        if model and weights_digest(model) == digest and store.fetch(KIND, name, folder):
            return model
    return None
