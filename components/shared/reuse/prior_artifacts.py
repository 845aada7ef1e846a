"""Looks up the artifacts of earlier runs with the same model key, in the registry and in the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.reuse import trained
from components.shared.storage.store import Store
from components.shared.tracking import registry

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class PriorArtifacts:
    """The artifacts of earlier runs with a model key.

    Attributes:
        version: the number of a complete version, or None.
        model: whether the store has a trained model.
        checkpoint: whether the store has a checkpoint.
    """

    version: str | None
    model: bool
    checkpoint: bool


def find_prior_artifacts(store: Store, client: MlflowClient, model_name: str, model_key: str) -> PriorArtifacts:
    """Looks in the registry for versions, and in the store for models and checkpoints.

    An incomplete version, without its alias and card, does not count: the next run completes it. A version of another
    model key counts if a training of this key resulted in the same weights.
    """
    digests = {result.weights_digest for result in trained.training_results(store, model_key)}
    versions = registry.versions_of_key(client, model_name, model_key)
    versions += [found for digest in sorted(digests) if (found := registry.version_of(client, model_name, digest))]
    complete = (str(version.version) for version in versions if registry.is_complete(version))
    return PriorArtifacts(
        version=next(complete, None),
        model=any(store.find(trained.KIND, digest) for digest in digests),
        checkpoint=bool(store.names("checkpoint", f"{model_key}/")),
    )
