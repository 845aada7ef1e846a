"""Finds the champion's scores on the validation text: stored scores if there are any, else new scores of its model.

Scores and model are looked up by the weights digest of the champion's version.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.failure import Failure
from components.shared.model.registered_model import registered_model
from components.shared.reuse.trained import fetch_model
from components.shared.runtime.step import Step
from components.shared.tracking import registry
from components.shared.tracking.approval import champion_version
from components.shared.tracking.run import translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from components.evaluate.measure import ModelScores

KIND = "evaluation"
Measure = Callable[[Path, dict[str, Any]], "ModelScores"]


@dataclass(frozen=True)
class Champion:
    """The version that has the alias `champion`, or the approved one if that must not be served.

    Attributes:
        version: its number.
        weights_digest: the digest of its weights; "" if the version does not have that tag.
        evaluation: the content of an evaluation.json, with at least the validation split; None if it is not available.
        origin: a phrase that says where the scores come from, or why there are none.
        tags: the tags of the version.
    """

    version: str
    weights_digest: str
    evaluation: dict[str, Any] | None
    origin: str
    tags: dict[str, str]


def find_champion(step: Step, model_name: str, key: str, measure: Measure) -> Champion | None:
    """Returns the champion of a registered model, or None if there is none.

    Args:
        step: the context of the step.
        model_name: the name of the registered model.
        key: the key of this evaluation, see `evaluation_key`.
        measure: a function that scores the validation text with the model in a folder, given the metadata of its
            manifest.
    """
    client = step.tracking.client
    with translate_mlflow_errors(client):
        version = champion_version(client, model_name, step.promoters)
    if version is None:
        return None
    weights = version.tags.get(registry.WEIGHTS_DIGEST, "")
    evaluation, origin = _scores(step, version, weights, key, measure)
    return Champion(str(version.version), weights, evaluation, origin, dict(version.tags))


def published(step: Step, weights_digest: str, key: str, folder: Path) -> dict[str, Any] | None:
    """Returns the stored evaluation of these weights, or None. Its verdict may refer to an earlier champion."""
    manifest = step.store.fetch(KIND, f"{weights_digest}/{key}", folder)
    if manifest is None or manifest.metadata.get("weights_digest") != weights_digest:
        return None
    return json.loads((folder / registry.EVALUATION).read_text(encoding="utf-8"))


def _scores(
    step: Step, version: ModelVersion, weights: str, key: str, measure: Measure
) -> tuple[dict[str, Any] | None, str]:
    if not weights:
        return None, f"version {version.version} has no tag {registry.WEIGHTS_DIGEST}"
    legacy_name = version.tags.get(registry.FINGERPRINT, "")
    with tempfile.TemporaryDirectory(prefix="champion-") as scratch:
        if evaluation := published(step, weights, key, Path(scratch) / "evaluation"):
            return evaluation, "as published in the store"
        folder, registered = Path(scratch) / "model", Path(scratch) / "registered"
        model = fetch_model(step.store, weights, folder, legacy_name=legacy_name)
        metadata = model.metadata if model else registered_model(step.tracking.client, version, registered)
        if metadata is not None:
            try:
                scored = measure(folder if model else registered, metadata).to_dict()
                return scored | {"weights_digest": weights}, "scored again from its model"
            except Failure as failure:
                return None, f"these settings do not fit it: {failure.what}"
    same = version.tags.get(registry.EVALUATION_KEY) == key
    if same and (kept := registry.evaluation_of(step.tracking.client, version)):
        return kept, "as kept with its MLflow run"
    return None, f"neither this evaluation of weights {weights[:12]}… nor their model is in the store or in MLflow"
