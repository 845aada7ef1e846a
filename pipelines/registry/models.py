"""The versions of the registered models as rows, for `wikigpt models` and the summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.shared.report.measures import finite
from components.shared.tracking import registry
from components.shared.tracking.approval import Refused
from components.shared.tracking.run import PIPELINE_RUN_TAG
from components.shared.tracking.trend import TrendPoint, trend_of
from pipelines.registry.approval import approved_champion, refused_champion

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader


@dataclass(frozen=True)
class ModelRow:
    """One version.

    Attributes:
        name, version, aliases: the name of the registered model, the version and its aliases.
        word_perplexity, token_perplexity, bits_per_byte: the scores on the test split by the protocol `wikitext-word`;
            None if the version has no such score.
        corpus, dataset_digest: the data that it was trained on.
        reuse_key: the model key of the run that trained it; for a version of an earlier wikigpt, the fingerprint of its
            training.
        weights_digest: the digest of its weights.
        repeats: the version that has the same model key and other weights, or None.
        run_id: its MLflow run.
        pipeline_run: the run that created it.
        signed_by: the fingerprint of the key that signed it, or None. Only `wikigpt verify` tells whether the
            signature is valid.
        refused: why it must not be served, if it has the alias champion and is not the approved champion; or None.
    """

    name: str
    version: str
    aliases: list[str]
    word_perplexity: float | None
    token_perplexity: float | None
    bits_per_byte: float | None
    corpus: str
    dataset_digest: str
    reuse_key: str
    weights_digest: str
    repeats: str | None
    run_id: str
    pipeline_run: str
    signed_by: str | None = None
    refused: str | None = None


def refused_champions(client: RegistryReader, name: str | None = None) -> dict[str, Refused]:
    """Why champions must not be served, by the names of our registered models, or of the named one."""
    names = [model.name for model in registry.registered_models(client) if name in (None, model.name)]
    return {each: refused for each in names if (refused := refused_champion(client, each))}


def models(
    client: RegistryReader, name: str | None = None, refused: Mapping[str, Refused] | None = None
) -> list[ModelRow]:
    """All versions of our registered models, or of the named one, the newest first.

    Args:
        client: a client of the registry, or the database.
        name: the name of a registered model; None for all.
        refused: the champions that must not be served, if they were asked for already.
    """
    refused = refused_champions(client, name) if refused is None else refused
    found = [
        (
            version.creation_timestamp,
            row_of(version, aliases_of(model.aliases, version.version), refused.get(model.name)),
        )
        for model in registry.registered_models(client)
        if name is None or model.name == name
        for version in registry.all_versions(client, model.name)
        if registry.model_key_of(version)
    ]
    return [row for _, row in sorted(found, key=lambda pair: (pair[0], int(pair[1].version)), reverse=True)]


def trend(client: RegistryReader, name: str) -> list[TrendPoint]:
    """The trend over the versions of a registered model, for `wikigpt models --chart`."""
    return trend_of(registry.all_versions(client, name), approved_champion(client, name).version or "")


def row_of(version: AnyVersion, aliases: list[str], refused: Refused | None = None) -> ModelRow:
    """The row of a version, from its tags."""
    tags = version.tags
    return ModelRow(
        name=version.name,
        version=str(version.version),
        aliases=aliases,
        word_perplexity=finite(tags.get(registry.score_tag("test", "word_perplexity"))),
        token_perplexity=finite(tags.get(registry.score_tag("test", "token_perplexity"))),
        bits_per_byte=finite(tags.get(registry.score_tag("test", "bits_per_byte"))),
        corpus=tags.get(registry.CORPUS, ""),
        dataset_digest=tags.get(registry.DATASET_DIGEST, ""),
        reuse_key=registry.model_key_of(version),
        weights_digest=tags.get(registry.WEIGHTS_DIGEST, ""),
        repeats=tags.get(registry.REPEATS),
        run_id=version.run_id or "",
        pipeline_run=tags.get(PIPELINE_RUN_TAG, ""),
        signed_by=tags.get(registry.SIGNED_BY),
        refused=refused.reason if refused and refused.version == str(version.version) else None,
    )


def aliases_of(aliases: dict[str, str], version: str) -> list[str]:
    """The aliases that a version has."""
    return sorted(alias for alias, holder in aliases.items() if str(holder) == str(version))
