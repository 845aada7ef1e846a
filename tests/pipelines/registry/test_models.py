"""The rows of `wikigpt models`."""

import math

import pytest
from mlflow import MlflowClient

from pipelines.registry.models import models


def test_rows_are_newest_first_with_numbers_and_aliases(filled: MlflowClient) -> None:
    rows = models(filled)
    assert [(row.version, row.aliases, row.reuse_key[0]) for row in rows] == [
        ("2", ["challenger"], "2"),
        ("1", ["champion"], "1"),
    ]
    assert rows[1].word_perplexity == pytest.approx(math.exp(5.0))
    assert rows[1].token_perplexity == pytest.approx(math.exp(5.0 * 100 / 150))
    assert rows[1].bits_per_byte == pytest.approx(5.0 * 100 / 600 / math.log(2))
    assert {row.corpus for row in rows} == {"sample"}
    assert rows[0].run_id != rows[1].run_id


def test_a_model_of_another_hand_is_not_listed(client: MlflowClient) -> None:
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "file:///nowhere")
    assert models(client) == []
