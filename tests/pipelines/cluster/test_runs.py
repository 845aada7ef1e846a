"""The server's answer about a run becomes the states of our steps, for every recorded run and every outcome."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import kfp_server_api
import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.formatting import status_lines
from pipelines.cluster.runs import RunStatus, parse_run
from pipelines.cluster.wait import require_success
from tests.kfp_stand_in.recorded import FOLDER, recorded

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
DONE = "succeeded"
# Run, its state, and its steps: download, validate, tokenize, train, evaluate, register, notify.
TABLE = {
    "succeeded": ("SUCCEEDED", [DONE] * 7),
    "skipped": ("SUCCEEDED", [DONE, *["skipped"] * 5, DONE]),
    "failed": ("FAILED", [DONE, DONE, DONE, "failed", "omitted", "omitted", DONE]),
    "failed-pod-deleted": ("FAILED", [DONE, DONE, DONE, "failed", "omitted", "omitted", DONE]),
    "running": ("RUNNING", [DONE, DONE, DONE, "running", *["not started"] * 3]),
    "of-deleted-schedule": ("RUNNING", [DONE, DONE, DONE, "running", *["not started"] * 3]),
    "pending-unschedulable": ("RUNNING", [DONE, DONE, DONE, "pending", *["not started"] * 3]),
    "canceling": ("CANCELING", [DONE, DONE, DONE, "running", *["not started"] * 3]),
    "canceled-seconds-after": ("CANCELED", [DONE, DONE, DONE, "cancelled", *["omitted"] * 3]),
    "canceled": ("CANCELED", [DONE, DONE, DONE, "cancelled", *["omitted"] * 3]),
    "canceled-while-unschedulable": ("CANCELED", [DONE, DONE, DONE, "cancelled", *["omitted"] * 3]),
    "canceling-for-ever": ("CANCELING", [DONE, DONE, DONE, "failed", *["omitted"] * 3]),
}
SECONDS = {"succeeded": [10, 15, 10, 717, 26, 21, 10], "failed": [10, 10, 12, 77, None, None, 24]}


def as_run(document: dict) -> kfp_server_api.V2beta1Run:
    """A recorded run, as the client returns it."""
    return kfp_server_api.ApiClient().deserialize(SimpleNamespace(data=json.dumps(document)), "V2beta1Run")


def described(name: str) -> RunStatus:
    return parse_run(as_run(recorded(f"rest/run-{name}")), NOW)


@pytest.fixture(params=TABLE)
def case(request, real_data: Path) -> tuple[str, RunStatus]:
    """A recorded run, whole."""
    path = real_data / "kfp-recorded" / "rest" / f"run-{request.param}.json"
    if not path.is_file():
        pytest.skip(f"no recording here: {path}")
    return request.param, parse_run(as_run(json.loads(path.read_text())), NOW)


def test_every_recorded_run_is_described(case):
    name, status = case
    assert (status.state, [step.state for step in status.steps]) == TABLE[name]


@pytest.mark.parametrize("name", [name for name in TABLE if (FOLDER / f"rest/run-{name}.json").is_file()])
def test_an_excerpt_says_the_same(name):
    assert (described(name).state, [step.state for step in described(name).steps]) == TABLE[name]


def test_a_run_that_ended_shows_no_step_that_waits_or_runs(case):
    _, status = case
    if status.over:
        assert not {step.state for step in status.steps} & {"pending", "running", "not started", "not finished"}


@pytest.mark.parametrize("name", SECONDS)
def test_durations(name):
    assert [step.seconds for step in described(name).steps] == SECONDS[name]


def test_the_lines_of_a_failed_run():
    lines = list(status_lines(described("failed"), "there is no kubeconfig"))
    assert lines[0] == "quick-20261127-015907-94a7  failed  3 min 8 s"
    assert [" ".join(line.split()) for line in lines[1:]] == [
        "download succeeded 10 s",
        "validate succeeded 10 s",
        "tokenize succeeded 12 s",
        "train failed 1 min 17 s",
        "see `wikigpt logs 85c316dd-0636-44c6-a0c2-b3b5b0ebfbe5 train` for why it failed",
        "evaluate omitted",
        "register omitted",
        "notify succeeded 24 s",
    ]


def test_a_step_that_failed_before_somebody_cancelled_the_run_failed_by_itself():
    document = recorded("rest/run-canceled")
    (asked,) = [entry for entry in document["state_history"] if entry["state"] == "CANCELING"]
    asked["update_time"] = "2026-11-27T02:02:08Z"  # a second after the end of train, while the exit handler began
    assert parse_run(as_run(document), NOW).step("train").state == "failed"


def test_a_run_that_ended_without_a_report_on_its_step():
    """The Workflow was deleted, and the server's run was then ended by hand."""
    document = recorded("rest/run-running")
    document.update(state="FAILED", finished_at="2026-11-27T02:10:00Z")
    assert parse_run(as_run(document), NOW).step("train").state == "not finished"


def test_a_run_without_nodes_yet():
    document = {**recorded("rest/run-running"), "run_details": {}, "state": "PENDING"}
    assert {step.state for step in parse_run(as_run(document), NOW).steps} == {"not started"}


@pytest.mark.parametrize(
    ("name", "sentence", "code"),
    [
        ("failed", "The run failed in train .*`wikigpt logs 85c316dd-.* train`", ExitCode.FAILED),
        ("canceled", "The run was cancelled", ExitCode.CANCELLED),
        ("canceled-while-unschedulable", "The run was cancelled", ExitCode.CANCELLED),
    ],
)
def test_what_an_end_means_for_the_command(name, sentence, code):
    with pytest.raises(Failure, match=sentence) as caught:
        require_success(described(name))
    assert caught.value.exit_code is code


@pytest.mark.parametrize("name", ["succeeded", "skipped"])
def test_a_run_that_succeeded_or_had_nothing_to_do_is_a_success(name):
    require_success(described(name))
