"""The whole DAG in real processes: MLflow on SQLite, real training, a local store and one behind the S3 protocol."""

import hashlib
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from components.shared.runtime.run_record import read_log
from components.shared.storage.manifest import read_manifest
from components.shared.storage.store import open_store
from tests.e2e.conftest import TINY, wikigpt

pytestmark = pytest.mark.slow

# torch then computes with other instructions, as on another machine, and the last bits of the weights differ.
ANOTHER_CPU = {"ATEN_CPU_CAPABILITY": "default"}
STEPS = {"download", "validate", "tokenize", "train", "evaluate", "register", "notify"}


def folders(home: Path, run: str) -> dict[str, Path]:
    (steps,) = (home / "runs" / run / "steps").iterdir()
    return {path.name: path for path in steps.iterdir()}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """One run with everything on a local disk, and its home."""
    home = tmp_path_factory.mktemp("local") / "home"
    return wikigpt("run", "--json", "--profile", TINY, "--home", home).document, home


def test_every_artifact_is_there_and_loads(local):
    import numpy as np

    outcome, home = local
    assert outcome["status"] == "trained" and outcome["exit_code"] == 0
    assert set(outcome["seconds"]) == STEPS

    made = folders(home, outcome["run"])
    corpus = read_manifest(made["download"] / "corpus", "corpus")
    tokens = read_manifest(made["tokenize"] / "tokens", "tokens")
    assert read_manifest(made["validate"] / "results", "validation").files
    assert read_manifest(made["evaluate"] / "evaluation", "evaluation").files
    model = read_manifest(made["train"] / "model", "model")
    assert tokens.metadata["dataset_digest"] == corpus.metadata["dataset_digest"] == model.metadata["dataset_digest"]
    ids = np.fromfile(made["tokenize"] / "tokens" / "test.bin", dtype=tokens.metadata["dtype"])
    assert len(ids) == tokens.metadata["splits"]["test"]["tokens"]
    for report in outcome["reports"].values():
        page = Path(report).read_text()
        assert page.startswith("<!doctype html>") and "<svg" in page
        assert not re.search(r"""(src|href)=["']https?:""", page)


def test_the_launcher_is_handed_the_metrics_and_a_file_of_each_output(local):
    """What the launcher of Kubeflow Pipelines records in ML Metadata, and uploads."""
    outcome, home = local
    step = folders(home, outcome["run"])["evaluate"]
    artifacts = json.loads((step / "executor_output.json").read_text())["artifacts"]
    (metrics,) = artifacts["metrics"]["artifacts"]
    assert metrics["metadata"]["test_word_perplexity"] == pytest.approx(outcome["version"]["word_perplexity"], rel=1e-6)
    assert json.loads((step / "metrics").read_text()) == metrics["metadata"]
    assert {path.name for path in step.iterdir()} >= {"evaluation", "metrics", "report"}


def test_the_logs_of_the_steps_are_in_mlflow_and_in_the_store(local):
    from mlflow import MlflowClient

    outcome, home = local
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    logged = {artifact.path for artifact in client.list_artifacts(outcome["version"]["run_id"], "logs")}
    assert logged == {f"logs/{step}.txt" for step in STEPS - {"notify"}}
    assert '"step": "train"' in read_log(open_store(str(home / "store")), outcome["run"], "train")


def test_the_registered_model_loads_and_scores_as_recorded(local, monkeypatch):
    import mlflow

    from components.evaluate.perplexity import score_text
    from components.evaluate.scoring import Scorer

    outcome, home = local
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    address = f"models:/{outcome['version']['name']}@champion"
    loaded = mlflow.transformers.load_model(address, return_type="components", device="cpu")

    made = folders(home, outcome["run"])
    recorded = json.loads((made["evaluate"] / "evaluation" / "evaluation.json").read_text())
    recorded = recorded["protocols"]["wikitext-word"]["test"]
    text = (made["download"] / "corpus" / "test.txt").read_bytes().decode()
    scorer = Scorer(loaded["model"].eval(), window=recorded["window"], stride=recorded["stride"])
    score = score_text(text, "wikitext-word", scorer, loaded["tokenizer"], trained_bos=recorded["bos"])
    for name in ("word_perplexity", "token_perplexity", "bits_per_byte"):
        assert getattr(score, name) == pytest.approx(recorded[name], rel=1e-4)
        assert outcome["version"][name] == pytest.approx(recorded[name], rel=1e-4)


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


def everything(home: Path) -> dict[str, str]:
    """All rows of MLflow's database, and every file of its artifacts and of the store, with its bytes and its time."""
    rows = list(sqlite3.connect(home / "mlflow.db").iterdump())
    files = (path for folder in ("mlartifacts", "store") for path in (home / folder).rglob("*") if path.is_file())
    return {f"row {number}": row for number, row in enumerate(rows)} | {
        str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}" for path in files
    }


def test_reproduce_makes_the_same_weights_again_and_leaves_registry_and_store_as_they_are(tiny_run, tmp_path):
    """Also if the text is no longer at its address, because the store has it."""
    from components.download.sample import sample_corpus

    home, text = tmp_path / "home", tmp_path / "harbour"
    text.mkdir()
    for split, content in sample_corpus().items():
        (text / f"{split}.txt").write_bytes(content.replace(b"river", b"harbour"))
    made = tiny_run("--corpus", text).document
    shutil.rmtree(text)
    before = everything(home)
    done = wikigpt("reproduce", f"models:/{made['version']['name']}/1", "--home", home, timeout=600)
    assert done.code == 0, done.stderr
    assert "bit for bit" in done.stdout
    assert everything(home) == before
    assert len(list((home / "runs").iterdir())) == 1
    assert list((home / "reproductions").iterdir()) == []


def test_a_reproduction_that_differs_says_why_and_leaves_registry_and_store_as_they_are(tiny_run, tmp_path):
    home, version = tmp_path / "home", f"models:/{tiny_run().document['version']['name']}/1"
    before = everything(home)
    done = wikigpt("reproduce", version, "--home", home, timeout=600, **ANOTHER_CPU)
    assert done.code == 1
    assert re.search(r"numerics differ: processor: '.*' then, '.*DEFAULT' now", done.stderr.replace("\n", " "))
    assert everything(home) == before


def test_another_cpu_makes_a_version_of_its_own_and_leaves_the_first_as_it_is(tiny_run, tmp_path):
    from mlflow import MlflowClient

    first = tiny_run().document["version"]
    client = MlflowClient(f"sqlite:///{tmp_path}/home/mlflow.db")
    before = client.get_model_version(first["name"], "1")
    second = tiny_run("--force", **ANOTHER_CPU).document["version"]
    assert (second["version"], second["repeats"], second["reuse_key"]) == ("2", "1", first["reuse_key"])
    assert second["weights_digest"] != first["weights_digest"]
    after = client.get_model_version(first["name"], "1")
    assert (after.tags, after.description, after.run_id) == (before.tags, before.description, before.run_id)
    again = tiny_run("--force").document["version"]
    assert {**again, "aliases": first["aliases"]} == first


def test_through_object_storage(tiny_run, s3_emulator):
    address, variables = s3_emulator
    outcome = tiny_run("--store", address, **variables).document
    assert outcome["status"] == "trained"
    again = tiny_run("--store", address, **variables).document
    assert again["status"] == "skipped"


def test_a_store_holds_what_a_second_home_needs(tiny_run, tmp_path):
    """On another laptop with the same store nothing is trained twice, and its registry gets the version."""
    tiny_run("--store", tmp_path / "store")
    where = ("--home", tmp_path / "other", "--store", tmp_path / "store")
    other = wikigpt("run", "--json", "--profile", TINY, *where).document
    assert other["status"] == "trained" and "train" in other["reused"]
    assert open_store(str(tmp_path / "store")).names("model")
