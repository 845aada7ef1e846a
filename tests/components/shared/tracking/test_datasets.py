"""Corpora as MLflow's datasets."""

import json

import pytest

from components.shared.tracking.datasets import dataset_inputs


@pytest.mark.parametrize(
    ("source", "kind", "content"),
    [
        ("https://host/wikitext.zip", "http", {"url": "https://host/wikitext.zip"}),
        ("s3://bucket/text", "s3", {"uri": "s3://bucket/text"}),
        ("hf://Salesforce/wikitext", "hugging_face", {"path": "Salesforce/wikitext"}),
        ("/home/ada/text", "external", {"uri": "/home/ada/text"}),
        ("made by the project", "external", {"uri": "made by the project"}),
    ],
)
def test_the_address_of_a_corpus_is_a_source_of_mlflow(source: str, kind: str, content: dict[str, str]) -> None:
    inputs = dataset_inputs({"name": "text", "dataset_digest": "d" * 64, "source": source})
    assert [(each.dataset.name, each.dataset.digest) for each in inputs] == [
        ("text/train", "d" * 36),
        ("text/validation", "d" * 36),
        ("text/test", "d" * 36),
    ]
    assert {(each.dataset.source_type, each.dataset.source) for each in inputs} == {(kind, json.dumps(content))}
