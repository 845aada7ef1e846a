"""Sweeps in real processes: by the command, one trial after the other, and by the pipeline for a cluster."""

import json
import signal
import subprocess
import sys
import time

import pytest
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from tests.e2e.conftest import TINY, environment, start, wikigpt

pytestmark = pytest.mark.slow

RATES = "train.learning_rate=[0.001, 0.01]"


def runs_below(client: MlflowClient, parent: str) -> dict[str, str]:
    """The status of each trial, by its name."""
    found = client.search_runs(["1"], f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'")
    return {run.info.run_name: run.info.status for run in found}


def test_a_sweep_compares_settings_and_its_best_model_is_reused(tmp_path):
    home, record = tmp_path / "home", tmp_path / "trials.jsonl"
    request = ("--profile", TINY, "--home", home)
    document = wikigpt("sweep", *request, "--set", RATES, "--record", record, "--json").document
    results = [trial["word_perplexity"] for trial in document["trials"]]
    assert results == sorted(results) and len(set(results)) == 2
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    assert runs_below(client, document["mlflow_run"]) == {"trial 1": "FINISHED", "trial 2": "FINISHED"}
    parent = client.get_run(document["mlflow_run"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_validation_word_perplexity"] == results[0]
    assert client.search_registered_models() == []

    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert {line["word_perplexity"] for line in lines} == {round(result, 2) for result in results}
    best = document["trials"][0]["values"]["train.learning_rate"]
    registered = wikigpt("run", "--json", *request, "--set", f"train.learning_rate={best}").document
    assert registered["reused"]["train"] == "model"


def test_a_sweep_that_is_interrupted_leaves_no_open_run_and_goes_on_with_what_it_has(tmp_path):
    request = ("sweep", "--profile", TINY, "--home", tmp_path / "home", "--set", RATES)
    process = start(*request)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("Trial 2 of 2"):
            break
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and "Interrupted. The same command goes on" in err
    assert out.splitlines()[-1].startswith("| 2 | 0.01 | none |")
    client = MlflowClient(f"sqlite:///{tmp_path}/home/mlflow.db")
    states = {run.info.run_name: run.info.status for run in client.search_runs(["1"])}
    assert (states.pop("trial 1"), states.pop("trial 2")) == ("FINISHED", "KILLED")
    assert set(states.values()) == {"KILLED"}
    again = wikigpt(*request)
    assert again.code == 0 and "a trained model is in the store" in again.stderr, again.stderr
    assert again.stdout.count("none") == 0


def test_the_pipeline_of_a_sweep_runs_its_rounds_and_survives_a_trial_that_fails(tmp_path):
    """As a cluster runs it, by kfp.local. The learning rate of the second trial is out of range."""
    code = f"""
import sys
from kfp import local
from pipelines.config.parameters import RunParameters, TrainPod
from pipelines.sweep import build_sweep
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root={str(tmp_path / "steps")!r})
sweep = build_sweep(RunParameters(), TrainPod(gpus=0, cores=1), rounds=2, at_once=2)
tiny = ["tokenize.vocab_size=300", "train.steps=2", "train.evaluate_every=2", "train.sequence_length=32"]
sweep(space=["train.learning_rate=[0.01, 1.0e+9, 0.02]"], sampler="grid", trials=3, corpus="sample", overrides=tiny)
"""
    variables = {
        "WIKIGPT_STORE": str(tmp_path / "store"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "WIKIGPT_OWNER_PID": "1",
    }
    subprocess.run([sys.executable, "-c", code], env=environment(**variables), timeout=500, capture_output=True)
    client = MlflowClient(variables["MLFLOW_TRACKING_URI"])
    (parent,) = [run for run in client.search_runs(["1"]) if MLFLOW_PARENT_RUN_ID not in run.data.tags]
    states = runs_below(client, parent.info.run_id)
    assert states == {"trial 1": "FINISHED", "trial 2": "FAILED", "trial 3": "FINISHED"}
    assert parent.info.status == "FINISHED" and parent.data.metrics["best_validation_word_perplexity"] > 1
