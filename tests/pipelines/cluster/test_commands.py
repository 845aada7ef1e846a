"""The commands for the cluster from end to end: arguments, HTTP requests, one sentence and an exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.config.parameters import RunParameters
from tests.kfp_stand_in.server import Fault
from tests.pipelines.cluster.conftest import IMAGE

ROOT = Path(__file__).parents[3]
SIGNED = "https://corpora.example/c.zip?X-Amz-Signature="


@pytest.fixture
def wikigpt(command, stand_in, monkeypatch):
    """The command against the stand-in."""
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", stand_in.url)
    monkeypatch.chdir(ROOT)
    return command


def test_submit_look_and_cancel(wikigpt, stand_in):
    stand_in.state.lifecycle = ("running",)
    code, out, err = wikigpt("submit", "-p", "quick", "--image", IMAGE, "--set", "train.steps=20")
    assert code == 0
    run_id = out.strip()
    run = stand_in.state.runs[run_id]
    assert run["runtime_config"]["parameters"] == RunParameters(overrides=["train.steps=20"]).to_dict()
    assert run["display_name"] in err

    lines = wikigpt("status", run_id)[1].splitlines()
    assert lines[0].split()[:2] == [run["display_name"], "running"]
    assert [line.split()[:2] for line in lines[1:6:3]] == [["download", "succeeded"], ["train", "running"]]
    document = json.loads(wikigpt("status", run_id, "--json")[1])
    assert (document["run_id"], document["note"]) == (run_id, "there is no kubeconfig, so the pods cannot be listed")
    code, out, err = wikigpt("logs", run_id)
    assert (code, out) == (1, "")
    assert "The log of step train cannot be read" in err
    first, second = wikigpt("cancel", run_id)[2].splitlines()
    assert first == f"{run_id}: cancelled"
    assert "stay open: WIKIGPT_STORE and MLFLOW_TRACKING_URI are not set here." in second
    assert wikigpt("cancel", run_id, "--wait")[2].startswith(f"{run_id}: cancelled\n")


@pytest.mark.slow
def test_a_cancel_that_takes_long_says_how_to_close_the_run_later(wikigpt, stand_in, monkeypatch):
    monkeypatch.setattr("pipelines.cluster.wait.CANCEL_TIMEOUT", 0.0)
    stand_in.state.lifecycle, stand_in.state.canceling = ("running",), ("canceling-for-ever",)
    run_id = wikigpt("submit", "-p", "quick", "--image", IMAGE)[1].strip()
    first, second = wikigpt("cancel", run_id)[2].splitlines()
    assert first == f"{run_id}: cancelling"
    assert f"`wikigpt cancel {run_id} --wait` ends its heartbeat and its MLflow run" in second


@pytest.mark.slow
def test_submit_and_wait(wikigpt, stand_in):
    stand_in.state.lifecycle = ("skipped",)
    code, out, err = wikigpt("submit", "-p", "quick", "--image", IMAGE, "--wait", "--json")
    assert code == 0
    assert json.loads(out)["run_id"] in stand_in.state.runs
    assert "train: skipped" in err


def test_the_end_of_the_run_is_the_exit_code(wikigpt, stand_in):
    wikigpt("schedule", "apply", "--image", IMAGE)
    for ending, expected, sentence in [
        ("succeeded", 0, ""),
        ("skipped", 0, ""),
        ("failed", 1, "wikigpt: The run failed in train"),
        ("canceled", 4, "wikigpt: The run was cancelled"),
        ("running", 5, "wikigpt: The run is not over after 0 s; it continues"),
    ]:
        stand_in.state.lifecycle = (ending,)
        code, _, err = wikigpt("schedule", "trigger", "nightly", "--wait", "--timeout", "0")
        assert (code, err.splitlines()[-1:] == [] or err.splitlines()[-1].startswith(sentence)) == (expected, True)


@pytest.mark.parametrize(
    ("arguments", "expected", "sentence"),
    [
        (["submit", "--image", "registry.example/wikigpt:latest"], 2, "named by a tag"),
        (["submit", "--image", IMAGE, "--set", "notify.password=hunter2"], 2, "looks like a credential"),
        (["submit", "--image", IMAGE, "--corpus", "/data/wikitext-2"], 2, "no pod of a cluster can read"),
        (["submit", "--image", IMAGE, "--corpus", f"{SIGNED}hunter2"], 2, "an address with a secret in its query"),
        (["compile", "-o", "p.yaml", "--corpus", f"{SIGNED}hunter2"], 2, "an address with a secret in its query"),
        (["compile", "-o", "p.yaml", "--set", "notify.webhook=https://x.example/hunter2"], 2, "address of a webhook"),
        (["status", "4711"], 2, "There is no run 4711"),
        (["logs", "4711", "train"], 2, "There is no run 4711"),
        (["cancel", "4711"], 2, "There is no run 4711"),
        (["schedule", "pause", "weekly"], 2, "There is no schedule 'weekly'"),
        (["schedule", "apply", "--from", "/nowhere", "--image", IMAGE], 2, "There are no schedules"),
        (["schedule", "apply", "--image", "registry.example/wikigpt:latest"], 2, "named by a tag"),
    ],
)
def test_wrong_input_is_one_sentence_and_changes_nothing(wikigpt, stand_in, arguments, expected, sentence):
    code, out, err = wikigpt(*arguments)
    assert (code, out) == (expected, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert "hunter2" not in err
    assert stand_in.changes == []


def test_a_schedule_with_a_secret_among_its_parameters(wikigpt, stand_in, tmp_path):
    parameters = f"{{download.corpus: '{SIGNED}hunter2'}}"
    text = f'{{name: nightly, cron: "0 0 2 * * *", profile: nightly, parameters: {parameters}}}'
    (tmp_path / "nightly.yaml").write_text(text)
    code, out, err = wikigpt("schedule", "apply", "--from", str(tmp_path), "--image", IMAGE)
    assert (code, out, stand_in.requests) == (2, "", [])
    assert "download.corpus holds what looks like an address with a secret in its query" in err
    assert "hunter2" not in err


def test_a_cron_with_five_fields(wikigpt, stand_in, tmp_path):
    (tmp_path / "nightly.yaml").write_text('{name: nightly, cron: "0 2 * * *", profile: nightly}')
    code, _, err = wikigpt("schedule", "apply", "--from", str(tmp_path), "--image", IMAGE)
    assert (code, stand_in.requests) == (2, [])
    assert "has five fields, and Kubeflow Pipelines wants six" in err


def test_a_web_page_a_stale_token_and_a_dead_server(wikigpt, stand_in, monkeypatch):
    stand_in.faults.append(Fault("page", times=4))
    assert wikigpt("status", "4711")[0] == 3
    stand_in.token = "fresh"
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "stale")
    assert wikigpt("status", "4711")[0] == 6
    assert wikigpt("status", "4711", "--endpoint", "http://127.0.0.1:9")[0] == 3
    assert stand_in.changes == []


def test_the_life_of_a_schedule(wikigpt, stand_in):
    code, out, _ = wikigpt("schedule", "list")
    assert (code, out) == (0, "nightly  not applied: it is in infra/schedules only\n")
    assert wikigpt("schedule", "list", "--check")[0] == 1
    code, _, err = wikigpt("schedule", "list", "--check", "--from", "nowhere")
    assert (code, "The folder of the schedules does not exist" in err) == (2, True)
    code, out, _ = wikigpt("schedule", "apply", "--image", IMAGE)
    assert code == 0
    first, second = out.splitlines()
    assert first == "nightly: created"
    assert second.startswith("  At 02:00 every day (UTC), next 20")
    assert second.count(" 02:00") == 4
    assert wikigpt("schedule", "list", "--check")[0] == 0
    (made,) = stand_in.state.recurring.values()
    made["created_at"] = "2026-01-01T00:00:00Z"
    code, out, _ = wikigpt("schedule", "list", "--check")
    assert (code, "  OVERDUE: no run started at " in out) == (1, True)
    assert wikigpt("schedule", "apply", "--image", IMAGE)[1].startswith("nightly: unchanged")
    assert wikigpt("schedule", "pause", "nightly")[1] == "nightly: paused\n"
    listed = json.loads(wikigpt("schedule", "list", "--json")[1])
    assert [(entry["name"], entry["paused"]) for entry in listed["schedules"]] == [("nightly", True)]
    assert wikigpt("schedule", "resume", "nightly")[0] == 0
    run_id = wikigpt("schedule", "trigger", "nightly")[1].strip()
    assert stand_in.state.runs[run_id]["state"] == "PENDING"
    assert stand_in.state.kubernetes.workflows[run_id]
    assert wikigpt("schedule", "delete", "nightly")[0] == 0
    assert stand_in.state.recurring == {}
    assert run_id in stand_in.state.runs


@pytest.mark.slow
def test_the_installed_command(stand_in):
    command = [sys.executable, "-m", "pipelines.cli", "status", "4711", "--endpoint", stand_in.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wikigpt: There is no run 4711")


def test_a_plan_is_what_apply_then_does(wikigpt, stand_in):
    apply = ("schedule", "apply", "--image", IMAGE)
    code, planned, err = wikigpt(*apply, "--plan")
    assert (code, err, stand_in.changes) == (0, "", [])
    assert [line.split(" ")[0] for line in planned.splitlines()] == ["create", "upload", "create", "create"]
    code, out, applied = wikigpt(*apply)
    assert (code, applied, out.splitlines()[0]) == (0, planned, "nightly: created")
    assert wikigpt(*apply, "--plan") == (0, "There is nothing to change.\n", "")
