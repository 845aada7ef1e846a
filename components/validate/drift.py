"""Finds the measurements of the champion's corpus, with which a new corpus is compared."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.shared.base.events import emit
from components.shared.storage.store import Store
from components.shared.text.units import Unit
from components.shared.tracking import registry
from components.shared.tracking.approval import champion_version
from components.shared.tracking.run import translate_mlflow_errors
from components.validate.statistics import STATISTICS, divergence

if TYPE_CHECKING:
    from mlflow import MlflowClient

DIVERGENCE = "divergence of words"
KIND = "validation"
RESULTS = "results.json"


@dataclass(frozen=True)
class Reference:
    """The measurements of the train split of the champion's corpus.

    Attributes:
        version: the version of the champion, for messages.
        dataset_digest: the digest of its corpus.
        statistics: the result of `text_statistics`.
        words: the result of `word_shares`.
        unit: the unit that counts as a word, see `Corpus`.
    """

    version: str
    dataset_digest: str
    statistics: dict[str, float]
    words: dict[str, float]
    unit: Unit = "word"

    def compare(self, statistics: dict[str, float], words: dict[str, float]) -> dict[str, float]:
        """Adds the divergence of the words from those of the champion to the statistics."""
        return {**statistics, DIVERGENCE: divergence(words, self.words)}


def champion_reference(
    client: MlflowClient, store: Store, model_name: str, dataset_digest: str, promoters: Collection[str] = ()
) -> Reference | None:
    """Returns the measurements of the champion's corpus, or None if it is this corpus, or is unknown, or there is no
    champion.

    Raises:
        Failure: MLflow refuses.
    """
    with translate_mlflow_errors(client):
        champion = champion_version(client, model_name, promoters)
    digest = champion.tags.get(registry.DATASET_DIGEST) if champion else None
    if champion is None or digest is None or digest == dataset_digest:
        return None
    results = _results(store, digest)
    if results is None or set(results["statistics"]) != set(STATISTICS):
        _say_unmeasured(str(champion.version))
        return None
    unit = results.get("unit", "word")  # earlier results have no unit
    return Reference(str(champion.version), digest, results["statistics"], results["frequent_words"], unit)


def comparable(reference: Reference | None, unit: Unit) -> Reference | None:
    """Returns the reference if it was measured in the unit of this corpus, else None."""
    if reference and reference.unit != unit:
        _say_unmeasured(reference.version)
        return None
    return reference


def _say_unmeasured(version: str) -> None:
    emit("note", text=f"the corpus of champion {version} was measured differently, so drift is not checked")


def _results(store: Store, dataset_digest: str) -> dict[str, Any] | None:
    with tempfile.TemporaryDirectory() as folder:
        if store.fetch(KIND, dataset_digest, Path(folder)) is None:
            return None
        return json.loads((Path(folder) / RESULTS).read_text(encoding="utf-8"))
