"""The corpus with which a new one is compared."""

import json

import pytest
from mlflow import MlflowClient

from components.shared.storage.manifest import write_manifest
from components.shared.storage.store import open_store
from components.validate.drift import DIVERGENCE, Reference, champion_reference
from components.validate.statistics import STATISTICS
from tests.components.validate.conftest import crown

MODEL = "wikigpt-own"
OURS, THEIRS = "a" * 64, "b" * 64
MEASURED = dict.fromkeys(STATISTICS, 7.0)


@pytest.fixture
def store(tmp_path):
    store = open_store(str(tmp_path / "store"))
    folder = tmp_path / "results"
    folder.mkdir()
    results = {"statistics": MEASURED, "frequent_words": {"a": 1.0}}
    (folder / "results.json").write_text(json.dumps(results))
    write_manifest(folder, "validation")
    store.publish(folder, "validation", THEIRS)
    return store


def test_without_a_champion_there_is_nothing_to_compare_with(store, tracking_uri):
    client = MlflowClient(tracking_uri)
    assert champion_reference(client, store, MODEL, OURS) is None
    client.create_registered_model(MODEL)
    assert champion_reference(client, store, MODEL, OURS) is None


def test_the_measurements_of_the_champions_corpus_come_from_the_store(store, tracking_uri):
    client = MlflowClient(tracking_uri)
    crown(client, MODEL, THEIRS)
    assert champion_reference(client, store, MODEL, OURS) == Reference("1", THEIRS, MEASURED, {"a": 1.0})


@pytest.mark.parametrize("digest", [OURS, ""])
def test_its_own_corpus_or_an_unknown_one_is_not_compared(store, tracking_uri, digest):
    client = MlflowClient(tracking_uri)
    crown(client, MODEL, digest)
    assert champion_reference(client, store, MODEL, OURS) is None


def test_a_corpus_without_measurements_is_reported(store, tracking_uri, capsys):
    client = MlflowClient(tracking_uri)
    crown(client, MODEL, "c" * 64)
    assert champion_reference(client, store, MODEL, OURS) is None
    assert "drift is not checked" in capsys.readouterr().out


def test_the_comparison_adds_the_divergence_of_words():
    reference = Reference("1", THEIRS, {"size in words": 7.0}, {"a": 1.0})
    assert reference.compare({"size in words": 8.0}, {"b": 1.0}) == {"size in words": 8.0, DIVERGENCE: 1.0}
