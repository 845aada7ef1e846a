"""A corpus as MLflow's datasets: one for each split, so that a run shows what it used and for what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from components.shared.text.articles import SPLITS

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_CONTEXT = {"train": "training", "validation": "validation", "test": "test"}
_LONGEST_DIGEST = 36  # characters, MLflow's limit
_SOURCES = (
    ("hf://", "hugging_face", "path"),
    ("s3://", "s3", "uri"),
    ("http://", "http", "url"),
    ("https://", "http", "url"),
)


def dataset_of(corpus: Mapping[str, Any], split: str) -> dict[str, str]:
    """The name and the digest of the dataset of a split.

    MLflow tells datasets apart by both, so the split is part of the name; the digest is that of the whole corpus.

    Args:
        corpus: the metadata of the corpus, with `name` and `dataset_digest`.
        split: `train`, `validation` or `test`.
    """
    return {"name": f"{corpus['name']}/{split}", "digest": str(corpus["dataset_digest"])[:_LONGEST_DIGEST]}


def dataset_inputs(corpus: Mapping[str, Any]) -> list[DatasetInput]:
    """The datasets of a run for `MlflowClient.log_inputs`, which logs each only once.

    Args:
        corpus: the metadata of the corpus: its name, its digest and its `source`, the address without credentials.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    kind, source = _source(str(corpus["source"]))
    return [
        DatasetInput(
            Dataset(**dataset_of(corpus, split), source_type=kind, source=json.dumps(source)),
            [InputTag(MLFLOW_DATASET_CONTEXT, _CONTEXT[split])],
        )
        for split in SPLITS
    ]


def _source(address: str) -> tuple[str, dict[str, str]]:
    """The type of a source and its content, by the names of `mlflow.data`, from which MLflow's pages make a link."""
    for prefix, kind, key in _SOURCES:
        if address.startswith(prefix):
            return kind, {key: address.removeprefix(prefix) if kind == "hugging_face" else address}
    return "external", {"uri": address}
