"""The champion's scores on our validation text: those that were published, or else new ones from its model.

Scores and model are those of the weights that the champion's version names, wherever they are found.
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
from components.shared.tracking.run import translate_mlflow_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from components.evaluate.measure import ModelScores

KIND = "evaluation"
Measure = Callable[[Path, dict[str, Any]], "ModelScores"]


@dataclass(frozen=True)
class Champion:
    """The version that has the alias `champion`.

    Attributes:
        version: its number.
        weights_digest: of its weights, "" where the version does not say.
        evaluation: what an evaluation.json holds, with validation at least; None where it cannot be had.
        origin: where the scores come from, or why there are none; a phrase.
        tags: of the version.
    """

    version: str
    weights_digest: str
    evaluation: dict[str, Any] | None
    origin: str
    tags: dict[str, str]


def find_champion(step: Step, model_name: str, key: str, measure: Measure) -> Champion | None:
    """The champion of a registered model, or None where there is none.

    Args:
        step: what the step was handed.
        model_name: of the registered model.
        key: of this evaluation, see `evaluation_key`.
        measure: scores the validation text with the model in a folder, given the metadata of its manifest.
    """
    client = step.tracking.client
    with translate_mlflow_errors(client):
        version = registry.version_with_alias(client, model_name, registry.CHAMPION)
    if version is None:
        return None
    weights = version.tags.get(registry.WEIGHTS_DIGEST, "")
    evaluation, origin = _scores(step, version, weights, key, measure)
    return Champion(str(version.version), weights, evaluation, origin, dict(version.tags))


def published(step: Step, weights_digest: str, key: str, folder: Path) -> dict[str, Any] | None:
    """The evaluation of some weights as the store holds it, or None; its verdict may be about an earlier champion."""
    manifest = step.store.fetch(KIND, f"{weights_digest}/{key}", folder)
    if manifest is None or manifest.metadata.get("weights_digest") != weights_digest:
        return None
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


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
