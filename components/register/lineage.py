"""Where a version comes from and what it scored, as the tags of the version."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from components.shared import registry
from components.shared.articles import HELD_OUT
from components.shared.gate import PROTOCOL
from components.shared.registry import weights_digest
from components.shared.storage.manifest import Manifest
from components.shared.tracking import PIPELINE_RUN_TAG


@dataclass(frozen=True)
class Made:
    """A finished model with everything that a version says of it.

    Attributes:
        name: of the registered model.
        fingerprint: of the training.
        pipeline_run: the identity of the pipeline run.
        run_id: the MLflow run of that pipeline run.
        corpus, model, evaluation: facts of the folders of those steps.
        weights_digest: over the names and digests of the files of weights.
        scores: the content of evaluation.json.
    """

    name: str
    fingerprint: str
    pipeline_run: str
    run_id: str
    corpus: dict[str, Any]
    model: dict[str, Any]
    evaluation: dict[str, Any]
    weights_digest: str
    scores: dict[str, Any]

    @classmethod
    def of(
        cls,
        *,
        fingerprint: str,
        pipeline_run: str,
        run_id: str,
        corpus: Manifest,
        model: Manifest,
        evaluation: Manifest,
        scores: dict[str, Any],
    ) -> Made:
        return cls(
            name=corpus.facts["model_name"],
            fingerprint=fingerprint,
            pipeline_run=pipeline_run,
            run_id=run_id,
            corpus=corpus.facts,
            model=model.facts,
            evaluation=evaluation.facts,
            weights_digest=weights_digest(model),
            scores=scores,
        )

    def measure(self, split: str, name: str) -> float:
        """One number of the headline protocol."""
        return float(self.scores["protocols"][PROTOCOL][split][name])


def lineage_tags(made: Made) -> dict[str, str]:
    """What a version was made of. Commit and image come from the environment of the step."""
    tags = {
        registry.SCHEMA: registry.SCHEMA_VERSION,
        registry.FINGERPRINT: made.fingerprint,
        registry.DATASET_DIGEST: made.corpus["dataset_digest"],
        registry.TOKENIZER_DIGEST: made.model["tokenizer_digest"],
        registry.WEIGHTS_DIGEST: made.weights_digest,
        registry.CORPUS: made.corpus["name"],
        registry.COMMIT: os.environ.get("WIKIGPT_COMMIT", ""),
        "wikigpt.image": os.environ.get("WIKIGPT_IMAGE", ""),
        PIPELINE_RUN_TAG: made.pipeline_run,
        "wikigpt.gpu_seconds": made.model["gpu_seconds"],
        "wikigpt.train_seconds": made.model["train_seconds"],
        "wikigpt.parameters": made.model["parameters"],
    }
    return {name: str(value) for name, value in tags.items() if value != ""}


def evaluation_tags(made: Made) -> dict[str, str]:
    """What a version scored, and by which evaluation."""
    tags = {
        registry.score_tag(split, name): f"{made.measure(split, name):.8g}"
        for split in HELD_OUT
        for name in registry.MEASURES
    }
    return tags | {
        registry.EVALUATION_RUN: made.run_id,
        registry.EVALUATION_KEY: made.evaluation["evaluation_key"],
    }
