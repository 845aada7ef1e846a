"""Waiting for a run, cancelling it, and the exit code for its outcome."""

import pytest

from components.shared.base.failure import ExitCode, Failure
from pipelines.cluster.submission import Package, submit
from pipelines.cluster.wait import cancel, require_success, wait
from tests.kfp_stand_in.server import Fault


@pytest.fixture
def submit_with(cluster, stand_in, ir):
    def submit_one(*lifecycle: str) -> str:
        stand_in.state.lifecycle = lifecycle
        return submit(cluster, Package(ir.read_bytes(), {}, None, "nightly")).run_id

    return submit_one


def test_a_run_that_succeeds(cluster, submit_with):
    run_id, seen = submit_with("pending", "running", "running", "succeeded"), []
    status = wait(cluster, run_id, poll_seconds=0.01, on_status=lambda status: seen.append(status.state))
    assert seen == ["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"]
    require_success(status)


@pytest.mark.parametrize(
    ("lifecycle", "code", "sentence"),
    [
        (("running", "failed"), ExitCode.FAILED, "The run failed in train"),
        (("running", "failed-pod-deleted"), ExitCode.FAILED, "The run failed in train"),
        (("running", "canceling", "canceled"), ExitCode.CANCELLED, "The run was cancelled"),
        (("pending-unschedulable", "canceled-while-unschedulable"), ExitCode.CANCELLED, "The run was cancelled"),
    ],
)
def test_a_run_that_ends_badly(cluster, submit_with, lifecycle, code, sentence):
    status = wait(cluster, submit_with(*lifecycle), poll_seconds=0.01)
    with pytest.raises(Failure, match=sentence) as caught:
        require_success(status)
    assert caught.value.exit_code is code


def test_a_run_that_takes_too_long_continues(cluster, stand_in, submit_with):
    run_id = submit_with("running")
    with pytest.raises(Failure, match=r"not over after 0.05 s; it continues") as caught:
        wait(cluster, run_id, limit=0.05, poll_seconds=0.01)
    assert caught.value.exit_code is ExitCode.TIMED_OUT
    assert "RunService_TerminateRun" not in stand_in.requests


def test_a_server_that_is_away_for_a_while_is_waited_for(cluster, stand_in, submit_with):
    run_id = submit_with("running", "succeeded")
    stand_in.faults += [Fault("error", "GetRun", times=5), Fault("drop", "GetRun", times=1)]
    assert wait(cluster, run_id, poll_seconds=0.01).state == "SUCCEEDED"


def test_a_server_that_stays_away_is_not(cluster, stand_in, submit_with):
    run_id = submit_with("running")
    stand_in.faults.append(Fault("error", "GetRun", times=99))
    with pytest.raises(Failure, match="answered 500") as caught:
        wait(cluster, run_id, poll_seconds=0.01, patience=0.1)
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_a_token_that_expires_meanwhile(cluster, stand_in, submit_with):
    run_id = submit_with("running")
    stand_in.token = "renewed"
    with pytest.raises(Failure, match="the token has expired") as caught:
        wait(cluster, run_id, poll_seconds=0.01)
    assert caught.value.exit_code is ExitCode.UNAUTHORISED


def test_a_run_that_does_not_exist(cluster, stand_in):
    for call in (wait, cancel):
        with pytest.raises(Failure, match="There is no run 4711") as caught:
            call(cluster, "4711")
        assert caught.value.exit_code is ExitCode.USAGE
    assert stand_in.changes == []


def test_cancelling(cluster, submit_with):
    run_id = submit_with("running")
    assert cancel(cluster, run_id).state == "CANCELING"
    assert wait(cluster, run_id, poll_seconds=0.01).state == "CANCELED"
    assert cancel(cluster, run_id).state == "CANCELED"


def test_cancelling_although_the_answer_is_lost(cluster, stand_in, submit_with):
    run_id = submit_with("running")
    stand_in.faults.append(Fault("lost", "TerminateRun"))
    assert cancel(cluster, run_id).state == "CANCELING"


def test_a_run_that_is_over_cannot_be_cancelled(cluster, stand_in, submit_with):
    run_id = submit_with("succeeded")
    with pytest.raises(Failure, match="The run is over: succeeded") as caught:
        cancel(cluster, run_id)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "RunService_TerminateRun" not in stand_in.requests
