"""How a run ended: the states are those that a real Kubeflow Pipelines 2.17 handed to the exit handler."""

import json
from pathlib import Path

import pytest

from components.notify.ending import HINTS, Ending, RunResult, conclude, sentence
from components.shared.base.failure import Failure, Interrupted
from components.shared.runtime.run_record import StepRecord

STATES = json.loads((Path(__file__).parent / "recorded_states.json").read_text())
BROKEN = Failure("The loss is nan in step 7", where="step train", remedy="lower train.learning_rate")
OOM = Failure("The kernel killed the step because it ran out of memory", where="step train", remedy="raise the limit")
SIGTERM = Interrupted("The step was interrupted by SIGTERM", where="step train")


def record(*finished: str, decision: str = "train", **unfinished: Failure | None) -> dict[str, StepRecord]:
    """The records of a run: the steps that finished, then at most one that failed or was killed (None)."""
    steps = {}
    for number, name in enumerate(finished):
        findings = {"decision": decision} if name == "download" else {}
        steps[name] = StepRecord("finished", float(number), findings)
    for name, failure in unfinished.items():
        steps[name] = StepRecord("failed" if failure else "running", 100.0, {}, failure)
    return steps


UNTIL_TRAIN = ("download", "validate", "tokenize")
ALL = (*UNTIL_TRAIN, "train", "evaluate", "register")


@pytest.mark.parametrize(
    ("recorded", "steps", "word", "status", "step"),
    [
        ("succeeded", record(*ALL), "succeeded", "FINISHED", None),
        ("retried-then-succeeded", record(*ALL), "succeeded", "FINISHED", None),
        ("replaced-schedule-run", record(*ALL), "succeeded", "FINISHED", None),
        ("of-deleted-schedule", record(*ALL), "succeeded", "FINISHED", None),
        ("with-mlflow-plugin", record(*ALL), "succeeded", "FINISHED", None),
        ("skipped", record("download", decision="skip"), "skipped", "FINISHED", None),
        ("triggered-skip", record("download", decision="skip"), "skipped", "FINISHED", None),
        ("failed", record(*UNTIL_TRAIN, train=BROKEN), "failed", "FAILED", "train"),
        ("failed-after-two-attempts", record(*UNTIL_TRAIN, train=BROKEN), "failed", "FAILED", "train"),
        ("failed-in-download", record(download=BROKEN), "failed", "FAILED", "download"),
        ("failed-in-validate", record("download", validate=BROKEN), "failed", "FAILED", "validate"),
        ("failed-train-oom", record(*UNTIL_TRAIN, train=OOM), "failed", "FAILED", "train"),
        ("failed-train-oom", record(*UNTIL_TRAIN, train=None), "failed", "FAILED", "train"),
        ("failed-train-pod-deleted", record(*UNTIL_TRAIN, train=SIGTERM), "interrupted", "KILLED", "train"),
        ("failed-train-pod-deleted", record(*UNTIL_TRAIN, train=None), "interrupted", "KILLED", "train"),
        ("failed-train-deadline", record(*UNTIL_TRAIN, train=SIGTERM), "interrupted", "KILLED", "train"),
        ("failed-train-deadline", record(*UNTIL_TRAIN, train=None), "interrupted", "KILLED", "train"),
        # What `wikigpt cancel` concludes from, since Kubeflow Pipelines never starts the exit handler then.
        ("canceled-never-delivered", record(*UNTIL_TRAIN, train=SIGTERM), "interrupted", "KILLED", "train"),
        ("canceled-never-delivered", record(*UNTIL_TRAIN, train=None), "interrupted", "KILLED", "train"),
    ],
)
def test_every_ending_that_was_seen_on_a_real_backend(recorded, steps, word, status, step):
    ending = conclude(STATES[recorded]["state"], steps)
    assert (ending.outcome, ending.mlflow_status, ending.step) == (word, status, step)
    assert bool(ending.failure) == (word in ("failed", "interrupted"))


def test_every_ending_that_was_recorded_is_in_the_table_above(real_data):
    recorded = real_data / "kfp-recorded" / "notify"
    seen = {
        path.stem.removeprefix("executor-input-"): json.loads(path.read_text())["inputs"]["parameterValues"]["status"]
        for path in recorded.glob("executor-input-*.json")
    }
    assert seen == STATES
    (table,) = test_every_ending_that_was_seen_on_a_real_backend.pytestmark
    assert {case[0] for case in table.args[1]} == seen.keys()


def test_every_state_of_the_api_is_mapped(real_data):
    api = json.loads((real_data / "kfp-api-v2beta1.swagger.json").read_text())
    assert set(api["definitions"]["v2beta1RuntimeState"]["enum"]) <= HINTS.keys()


@pytest.mark.parametrize("state", [*HINTS, "A_STATE_OF_TOMORROW", ""])
def test_no_state_changes_a_recorded_success_skip_or_failure(state):
    """The record of a run decides, even against an unknown state."""
    assert conclude(state, record(*ALL)).outcome == "succeeded"
    assert conclude(state, record("download", decision="skip")).outcome == "skipped"
    if HINTS.get(state) != "succeeded":
        failed = conclude(state, record("download", validate=BROKEN))
        assert failed.outcome == ("interrupted" if HINTS.get(state) == "canceled" else "failed")
        assert failed.failure == BROKEN


@pytest.mark.parametrize(
    ("hint", "word"),
    [("succeeded", "succeeded"), ("failed", "failed"), ("canceled", "interrupted"), ("none", "interrupted")],
)
def test_without_the_store_the_state_of_the_orchestrator_decides(hint, word):
    for state in (state for state, means in HINTS.items() if means == hint):
        assert conclude(state, None).outcome == word
    assert conclude("A_STATE_OF_TOMORROW", None).outcome == "interrupted"


@pytest.mark.parametrize("state", ["RUNNING", "A_STATE_OF_TOMORROW", "COMPLETE"])
def test_with_the_store_away_mlflow_tells_a_skip_and_a_success(state):
    assert conclude(state, None, decision="skip", version="4").outcome == "skipped"
    assert conclude(state, None, decision="train", version="4").outcome == "succeeded"


def test_a_failure_that_a_retry_repaired_is_no_failure():
    repaired = {**record(*ALL), "train": StepRecord("finished", 3.0)}
    assert conclude("COMPLETE", repaired) == Ending("succeeded")


def test_a_success_names_version_verdict_and_perplexity():
    result = RunResult("train", "", "wikigpt", "4", ("champion",), 139.204, "promote")
    assert sentence("run-1", Ending("succeeded"), result) == (
        "Run run-1 succeeded: version 4 of wikigpt is registered (word perplexity 139.20 on test, champion), and the"
        " verdict of the gate is promote."
    )


def test_a_champion_that_is_not_served_is_one_more_sentence():
    result = RunResult(reason="a version exists", champion_refused="bob made version 2 champion.")
    assert sentence("run-2", Ending("skipped"), result) == (
        "Run run-2 was skipped: a version exists. The alias champion is not followed: bob made version 2 champion."
    )


def test_a_skip_names_the_version_that_exists():
    result = RunResult("skip", "a version exists", "wikigpt", "4", ("champion",), 139.2)
    assert sentence("run-2", Ending("skipped"), result) == (
        "Run run-2 was skipped: version 4 of wikigpt already has this corpus, these settings and this code"
        " (word perplexity 139.20 on test, champion)."
    )


def test_a_skip_without_a_known_version_gives_the_reason_of_the_decision():
    result = RunResult("skip", "a version exists")
    assert sentence("run-2", Ending("skipped"), result) == "Run run-2 was skipped: a version exists."


def test_a_failure_says_what_where_and_what_to_do():
    assert sentence("run-3", conclude("FAILED", record("download", validate=BROKEN)), RunResult()) == (
        "Run run-3 failed in validate: The loss is nan in step 7 (step train): lower train.learning_rate."
    )


@pytest.mark.parametrize(
    ("state", "steps", "words"),
    [
        ("FAILED", None, "no step recorded a failure; see the log"),
        ("FAILED", record("download", "validate"), "No step began after validate"),
        ("FAILED", record(*UNTIL_TRAIN, train=None), "failed in train: The process of the step was killed"),
        ("RUNNING", record(*UNTIL_TRAIN, train=None), "interrupted in train: Its pod was deleted, evicted"),
        ("RUNNING", record(*UNTIL_TRAIN, train=SIGTERM), "Start the same run again to resume it"),
    ],
)
def test_the_notice_if_a_step_recorded_no_reason(state, steps, words):
    assert words in sentence("run-4", conclude(state, steps), RunResult())
