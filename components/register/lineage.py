"""The tags of a version that record its lineage and its scores."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from components.shared.base.address import is_on_hub, is_registered
from components.shared.base.failure import Failure
from components.shared.base.model_address import ModelAddress
from components.shared.report.measures import finite
from components.shared.reuse.trained import weights_digest
from components.shared.storage.manifest import Manifest
from components.shared.text.articles import HELD_OUT
from components.shared.tracking import registry
from components.shared.tracking.gate import PROTOCOL
from components.shared.tracking.run import PIPELINE_RUN_TAG


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with all facts that its version records.

    Attributes:
        name: the name of the registered model.
        reuse_key: the model key.
        pipeline_run: the identity of the pipeline run.
        run_id: the MLflow run of that pipeline run.
        corpus, model, evaluation: the metadata of the folders of those steps.
        weights_digest: the digest of the weights of the model, which the evaluation has scored.
        scores: the content of evaluation.json.
    """

    name: str
    reuse_key: str
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
        reuse_key: str,
        pipeline_run: str,
        run_id: str,
        corpus: Manifest,
        model: Manifest,
        evaluation: Manifest,
        scores: dict[str, Any],
    ) -> TrainedModel:
        """Combines the contents of the folders of the steps.

        Raises:
            Failure: the evaluation has scored other weights.
        """
        digest, scored = weights_digest(model), evaluation.metadata["weights_digest"]
        if not digest == scored == scores.get("weights_digest"):
            raise Failure(
                f"The evaluation scored the weights {scored[:12]}…, but the model has {digest[:12]}…",
                where=f"run {pipeline_run}",
                remedy="run again, so that the version gets the scores of its own weights",
            )
        return cls(
            name=corpus.metadata["model_name"],
            reuse_key=reuse_key,
            pipeline_run=pipeline_run,
            run_id=run_id,
            corpus=corpus.metadata,
            model=model.metadata,
            evaluation=evaluation.metadata,
            weights_digest=digest,
            scores=scores,
        )

    def measure(self, split: str, name: str) -> float | None:
        """Returns a measure of the headline protocol, or None if the text does not have it or it is not finite."""
        return finite(self.scores["protocols"][PROTOCOL][split][name])

    def measures(self) -> dict[tuple[str, str], float]:
        """Returns the available measures by split and name."""
        names = ((split, name) for split in HELD_OUT for name in registry.MEASURES)
        return {each: value for each in names if (value := self.measure(*each)) is not None}

    def adapted_measures(self) -> dict[tuple[str, str, str], float]:
        """Returns the measures of the model adapted while it was scored, by protocol, split and name."""
        return {
            (protocol, split, name): value
            for protocol, adapted in self.scores.get("adapted", {}).items()
            for split in HELD_OUT
            for name in registry.MEASURES
            if (value := finite(adapted["splits"][split][name])) is not None
        }


def lineage_tags(trained: TrainedModel) -> dict[str, str]:
    """Returns the tags for the origin of a version. Commit and image come from the environment of the step."""
    tags = {
        registry.SCHEMA: registry.SCHEMA_VERSION,
        registry.REUSE_KEY: trained.reuse_key,
        registry.TOKENS_KEY: trained.model.get("tokens_key", ""),
        registry.DATASET_DIGEST: trained.corpus["dataset_digest"],
        registry.TOKENIZER_DIGEST: trained.model["tokenizer_digest"],
        registry.WEIGHTS_DIGEST: trained.weights_digest,
        registry.NUMERICS: json.dumps(trained.model["numerics"], sort_keys=True),
        registry.CORPUS: trained.corpus["name"],
        registry.CORPUS_SOURCE: trained.corpus["source"],
        registry.LICENCE: trained.corpus.get("licence", ""),
        registry.BASE_MODEL: _base_model(trained.model["identity"]),
        registry.TOKENS_SEEN: trained.model["tokens_seen"],
        registry.COMMIT: os.environ.get("WIKIGPT_COMMIT", ""),
        registry.IMAGE: os.environ.get("WIKIGPT_IMAGE", ""),
        **version_tags(trained.model["identity"]),
        PIPELINE_RUN_TAG: trained.pipeline_run,
        **{tag: trained.model[tag.removeprefix("wikigpt.")] for tag in registry.COSTS},
    }
    return {name: str(value) for name, value in tags.items() if value != ""}


def _base_model(identity: dict[str, Any]) -> str:
    """The name on the Hub of the model that was fine-tuned; "" if there is none."""
    start = identity.get("train.pretrained") or ""
    return start if is_on_hub(start) else ""


def version_tags(identity: dict[str, Any]) -> dict[str, str]:
    """Returns the tags for the registered versions from which a training started or learned, if there are any."""
    tags: dict[str, str] = {}
    if is_registered(start := identity.get("train.pretrained") or ""):
        address = ModelAddress.parse(start)
        tags |= {registry.WARM_START_FROM: address.label, registry.WARM_START_DIGEST: address.digest}
    if teachers := [ModelAddress.parse(text) for text in identity.get("train.distill") or ()]:
        tags[registry.DISTILLED_FROM] = ", ".join(teacher.label for teacher in teachers)
        tags[registry.DISTILLED_DIGESTS] = ", ".join(teacher.digest for teacher in teachers)
    return tags


def evaluation_tags(trained: TrainedModel) -> dict[str, str]:
    """Returns the tags for the scores of a version, and for the evaluation that measured them."""
    tags = {registry.score_tag(*each): f"{value:.8g}" for each, value in trained.measures().items()}
    tags |= {registry.adapted_tag(*each): f"{value:.8g}" for each, value in trained.adapted_measures().items()}
    return tags | {
        registry.EVALUATION_RUN: trained.run_id,
        registry.EVALUATION_KEY: trained.evaluation["evaluation_key"],
    }
