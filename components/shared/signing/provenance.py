"""The provenance of a version: an in-toto statement with SLSA's predicate (slsa.dev/spec/v1.0/provenance).

Its subjects are the files of the model. What the registry says about the version, and the digests of its card, its
completions and its evaluation, are in the predicate.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.shared.reuse.trained import weights_digest
from components.shared.signing.bundle import BESIDE
from components.shared.storage.files import FileFact, file_fact
from components.shared.storage.manifest import Manifest
from components.shared.tracking import registry
from components.shared.tracking.run import PIPELINE_RUN_TAG

PREDICATE = "https://slsa.dev/provenance/v1"
CARD = "card"
_BUILD = "urn:wikigpt:training:v1"
_BUILDER = "urn:wikigpt:pipeline"
# The tags that say what a version is. Those that say what became of it, as its verdict, may change and are not signed.
_SIGNED_TAGS = {
    registry.SCHEMA,
    registry.REUSE_KEY,
    registry.TOKENS_KEY,
    registry.DATASET_DIGEST,
    registry.TOKENIZER_DIGEST,
    registry.WEIGHTS_DIGEST,
    registry.NUMERICS,
    registry.CORPUS,
    registry.CORPUS_SOURCE,
    registry.LICENCE,
    registry.BASE_MODEL,
    registry.TOKENS_SEEN,
    registry.WARM_START_FROM,
    registry.WARM_START_DIGEST,
    registry.DISTILLED_FROM,
    registry.DISTILLED_DIGESTS,
    registry.COMMIT,
    registry.IMAGE,
    registry.EVALUATION_KEY,
    registry.EVALUATION_RUN,
    PIPELINE_RUN_TAG,
    *registry.COSTS,
}


def signed_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a version that its provenance contains."""
    return {name: value for name, value in sorted(tags.items()) if name in _SIGNED_TAGS or registry.is_score_tag(name)}


def digests_in(folder: Path) -> dict[str, str]:
    """The sha256 of every file in a folder, by its path in it."""
    paths = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return {path.relative_to(folder).as_posix(): file_fact(path).sha256 for path in paths}


def model_digests(folder: Path) -> dict[str, str]:
    """The sha256 of the signed files in the folder of a model."""
    return {name: sha256 for name, sha256 in digests_in(folder).items() if name not in BESIDE}


def weights_digest_of(files: Mapping[str, str]) -> str:
    """The digest of the weights of a model, from the sha256 of its files by name.

    Raises:
        Failure: the model has no weights.
    """
    return weights_digest(Manifest("model", {name: FileFact(0, sha256) for name, sha256 in files.items()}))


def card_digest(card: str) -> str:
    """The sha256 of a card."""
    return hashlib.sha256(card.encode()).hexdigest()


def completions_digest(completions: bytes | None) -> dict[str, str]:
    """The sha256 of the file with the recorded completions, by its name; nothing for a version without it."""
    return {} if completions is None else {registry.COMPLETIONS: hashlib.sha256(completions).hexdigest()}


def provenance(
    tags: Mapping[str, str],
    *,
    card: str,
    completions: Mapping[str, str],
    evaluation: Mapping[str, str],
    settings: Mapping[str, str],
    signer: str,
    finished: str,
) -> dict[str, Any]:
    """Returns the predicate of a version, as JSON values.

    Args:
        tags: the tags of the version.
        card: the sha256 of its card.
        completions: that of the file with its recorded completions, by name.
        evaluation: the sha256 of the files of its evaluation, by name.
        settings: the inputs of its training by name, with the versions of the libraries.
        signer: the MLflow account that signs it, which is that of the pipeline in a run.
        finished: when the version was signed, in RFC 3339.
    """
    image = tags.get(registry.IMAGE, "")
    made = {CARD: card, **completions, **{f"evaluation/{name}": sha256 for name, sha256 in evaluation.items()}}
    return {
        "buildDefinition": {
            "buildType": _BUILD,
            "externalParameters": {"settings": dict(settings)},
            "internalParameters": {"tags": signed_tags(tags), "signer": signer},
            "resolvedDependencies": list(_dependencies(tags)),
        },
        "runDetails": {
            "builder": {"id": f"{_BUILDER}:{image}" if image else _BUILDER},
            "metadata": {"invocationId": tags.get(PIPELINE_RUN_TAG, ""), "finishedOn": finished},
            "byproducts": [{"name": name, "digest": {"sha256": made[name]}} for name in sorted(made)],
        },
    }


def byproducts_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of the card, of the completions and of the files of the evaluation in a statement, by name."""
    return {each["name"]: each["digest"]["sha256"] for each in statement["predicate"]["runDetails"]["byproducts"]}


def subjects_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of the files of the model in a statement, by name."""
    return {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}


def tags_of(statement: Mapping[str, Any]) -> dict[str, str]:
    """The tags in a statement."""
    return dict(statement["predicate"]["buildDefinition"]["internalParameters"]["tags"])


def _dependencies(tags: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """What the training depended on, each as a resource descriptor of in-toto."""
    if dataset := tags.get(registry.DATASET_DIGEST):
        found = {"name": tags.get(registry.CORPUS, ""), "digest": {"sha256": dataset}}
        yield found | ({"uri": tags[registry.CORPUS_SOURCE]} if tags.get(registry.CORPUS_SOURCE) else {})
    if commit := tags.get(registry.COMMIT):
        yield {"name": "wikigpt", "digest": {"gitCommit": commit}}
    if image := tags.get(registry.IMAGE):
        name, _, digest = image.partition("@sha256:")
        yield {"name": "image", "uri": name} | ({"digest": {"sha256": digest}} if digest else {})
    for names, digests in (
        (registry.WARM_START_FROM, registry.WARM_START_DIGEST),
        (registry.DISTILLED_FROM, registry.DISTILLED_DIGESTS),
    ):
        pairs = zip(tags.get(names, "").split(", "), tags.get(digests, "").split(", "), strict=False)
        yield from ({"name": name, "digest": {"sha256": digest}} for name, digest in pairs if name and digest)
    if torch := json.loads(tags.get(registry.NUMERICS, "{}")).get("torch"):
        yield {"name": "torch", "annotations": {"version": torch}}
