"""The versions of the registered models as rows: what `wikigpt models` lists and a run's summary names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared import registry
from components.shared.tracking import PIPELINE_RUN_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class ModelRow:
    """One version.

    Attributes:
        name, version, aliases: in the registry.
        word_perplexity, token_perplexity, bits_per_byte: of the test split, by the protocol `wikitext-word`; None where
            a version carries no such number.
        corpus, dataset_digest: what it was trained on.
        fingerprint: of its training.
        run_id: its MLflow run.
        pipeline_run: the run that made it.
    """

    name: str
    version: str
    aliases: list[str]
    word_perplexity: float | None
    token_perplexity: float | None
    bits_per_byte: float | None
    corpus: str
    dataset_digest: str
    fingerprint: str
    run_id: str
    pipeline_run: str


def models(client: MlflowClient, name: str | None = None) -> list[ModelRow]:
    """All versions of our registered models, or of the one named; the newest first."""
    found = [
        (version.creation_timestamp, row_of(version, aliases_of(model.aliases, version.version)))
        for model in client.search_registered_models(max_results=1000)
        if name is None or model.name == name
        for version in registry.versions(client, model.name)
        if registry.FINGERPRINT in version.tags
    ]
    return [row for _, row in sorted(found, key=lambda pair: (pair[0], int(pair[1].version)), reverse=True)]


def row_of_fingerprint(client: MlflowClient, name: str, fingerprint: str) -> ModelRow | None:
    """The row of the version that a training fingerprint made, or None."""
    version = registry.version_of(client, name, fingerprint)
    if version is None:
        return None
    return row_of(version, aliases_of(client.get_registered_model(name).aliases, version.version))


def row_of(version: ModelVersion, aliases: list[str]) -> ModelRow:
    """The row of a version; its numbers and lineage are tags."""
    tags = version.tags
    return ModelRow(
        name=version.name,
        version=str(version.version),
        aliases=aliases,
        word_perplexity=_number(tags.get(registry.score_tag("test", "word_perplexity"))),
        token_perplexity=_number(tags.get(registry.score_tag("test", "token_perplexity"))),
        bits_per_byte=_number(tags.get(registry.score_tag("test", "bits_per_byte"))),
        corpus=tags.get(registry.CORPUS, ""),
        dataset_digest=tags.get(registry.DATASET_DIGEST, ""),
        fingerprint=tags.get(registry.FINGERPRINT, ""),
        run_id=version.run_id or "",
        pipeline_run=tags.get(PIPELINE_RUN_TAG, ""),
    )


def aliases_of(aliases: dict[str, str], version: str) -> list[str]:
    """The aliases of a model that stand on a version."""
    return sorted(alias for alias, holder in aliases.items() if str(holder) == str(version))


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
