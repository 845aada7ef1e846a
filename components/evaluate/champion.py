"""The champion's scores on our validation text: as they were published, or else made anew from its model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared import registry
from components.shared.failure import Failure
from components.shared.step import Step
from components.shared.tracking import plainly

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from components.evaluate.measure import Measured

Measure = Callable[[Path, dict[str, Any]], "Measured"]


@dataclass(frozen=True)
class Champion:
    """The version that the alias `champion` stands on.

    Attributes:
        version: its number.
        fingerprint: of its training, "" where the version does not say.
        evaluation: what an evaluation.json holds, with validation at least; None where it cannot be had.
        origin: where the scores come from, or why there are none; a phrase.
        tags: of the version.
    """

    version: str
    fingerprint: str
    evaluation: dict[str, Any] | None
    origin: str
    tags: dict[str, str]


def find_champion(step: Step, model_name: str, key: str, measure: Measure) -> Champion | None:
    """The champion of a registered model, or None where there is none.

    Args:
        step: what the step was handed.
        model_name: of the registered model.
        key: of this evaluation, see `evaluation_key`.
        measure: scores the validation text with the model in a folder, given the facts of its manifest.
    """
    client = step.tracking.client
    with plainly(client):
        version = registry.holder(client, model_name, registry.CHAMPION)
    if version is None:
        return None
    fingerprint = version.tags.get(registry.FINGERPRINT, "")
    evaluation, origin = _scores(step, version, fingerprint, key, measure)
    return Champion(str(version.version), fingerprint, evaluation, origin, dict(version.tags))


def _scores(
    step: Step, version: ModelVersion, fingerprint: str, key: str, measure: Measure
) -> tuple[dict[str, Any] | None, str]:
    if not fingerprint:
        return None, f"version {version.version} has no tag {registry.FINGERPRINT}"
    with tempfile.TemporaryDirectory(prefix="champion-") as scratch:
        published, model = Path(scratch) / "evaluation", Path(scratch) / "model"
        if step.store.fetch("evaluation", f"{fingerprint}/{key}", published):
            return json.loads((published / "evaluation.json").read_text()), "as published in the store"
        if stored := step.store.fetch("model", fingerprint, model):
            try:
                return measure(model, stored.facts).to_dict(), "scored anew from its model"
            except Failure as failure:
                return None, f"these settings do not fit it: {failure.what}"
    same = version.tags.get(registry.EVALUATION_KEY) == key
    if same and (kept := registry.evaluation_of(step.tracking.client, version)):
        return kept, "as kept with its MLflow run"
    return None, f"neither this evaluation nor the model of fingerprint {fingerprint} is in the store"
