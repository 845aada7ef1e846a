"""Trained models in the store: each under the digest of its weights, and found again by what was asked for.

    manifests/model/<weights digest>.json       the model; other weights are another model, whatever made them
    claims/models/<reuse key>/<refined key>     {"weights_digest": ..., "numerics": ...}: what a training ended in

So a training that is repeated and ends in other weights leaves every earlier model as it is.
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
class Made:
    """What a training ended in.

    Attributes:
        reuse_key: that it was asked for by.
        refined_key: with the numerics that it had; of one that was resumed under other numerics, a name of its own.
        weights_digest: of the model.
    """

    reuse_key: str
    refined_key: str
    weights_digest: str

    @property
    def record(self) -> str:
        """The name of its record in the store."""
        return f"{_PREFIX}{self.reuse_key}/{self.refined_key}"


def weights_digest(model: Manifest) -> str:
    """sha256 over the names and digests of a model's weights: equal weights, equal digest.

    Raises:
        Failure: the folder holds no weights, so that nothing can be said of them.
    """
    weights = {name: fact.sha256 for name, fact in model.files.items() if name.endswith(".safetensors")}
    if not weights:
        raise Failure(
            "The model has no weights: no file of it ends in .safetensors",
            where=", ".join(sorted(model.files)) or "an empty folder",
            remedy="train again; the step that trains writes them",
        )
    return digest_of(weights)


def keep_model(store: Store, folder: Path, model: Manifest, reuse_key: str) -> str:
    """Publishes a model that was trained, and what it was asked for by.

    Args:
        store: where it goes.
        folder: of kind model.
        model: its manifest; the metadata name the numerics, and whether they changed while it was trained.
        reuse_key: of the training.

    Returns:
        The digest of its weights.
    """
    digest, numerics = weights_digest(model), model.metadata["numerics"]
    store.publish(folder, KIND, digest)
    # What was resumed under other numerics is not what these numerics give, so nobody is to take it for that.
    name = f"{_MIXED}{digest}" if model.metadata.get("numerics_changed") else refined(reuse_key, numerics)
    store.put_record(f"{_PREFIX}{reuse_key}/{name}", {"weights_digest": digest, "numerics": numerics})
    return digest


def made_by(store: Store, reuse_key: str = "") -> Iterator[Made]:
    """What trainings of a reuse key, or all trainings, ended in; the models themselves may be gone."""
    for name in store.claims(f"{_PREFIX}{reuse_key}/" if reuse_key else _PREFIX):
        if record := store.claimed(name):
            key, _, refined_key = name.removeprefix(_PREFIX).partition("/")
            yield Made(key, refined_key, record["weights_digest"])


def fetch_same(store: Store, reuse_key: str, numerics: dict[str, Any], folder: Path) -> Manifest | None:
    """The model that a training of this reuse key with these numerics ended in, or None."""
    record = store.claimed(f"{_PREFIX}{reuse_key}/{refined(reuse_key, numerics)}")
    return fetch_model(store, record["weights_digest"], folder) if record else None


def fetch_model(store: Store, digest: str, folder: Path, *, formerly: str = "") -> Manifest | None:
    """The model of these weights and no others, or None where the store has none.

    Args:
        store: that may hold it.
        digest: of the weights.
        folder: where it goes.
        formerly: the name that an earlier version of wikigpt gave it, the fingerprint of its training.
    """
    for name in filter(None, (digest, formerly)):
        model = store.manifest(KIND, name)
        if model and weights_digest(model) == digest and store.fetch(KIND, name, folder):
            return model
    return None
