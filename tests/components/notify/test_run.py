"""The exit handler as the pipeline and the command call it, with a real store and a real registry."""

import json

import mlflow
import pytest

from components.notify.run import run
from components.notify.settings import NotifySettings
from components.shared.base.failure import Failure
from components.shared.runtime.liveness import alive, heartbeat, heartbeat_of
from components.shared.runtime.run_record import record_failure, record_finish, record_start, write_log
from components.shared.runtime.settings import parse_section
from components.shared.runtime.step import Step
from components.shared.runtime.step import step as step_of
from components.shared.tracking import registry

SUCCEEDED = {"state": "SUCCEEDED", "error_code": 0, "error_message": ""}
FAILED = {"state": "FAILED", "error_code": 1, "error_message": "Inner task failed"}
CANCELED = {"state": "CANCELED", "error_code": 0, "error_message": ""}
# The two words of Kubeflow Pipelines 2.17, see recorded_states.json.
COMPLETE = {"state": "COMPLETE", "error_code": 0, "error_message": ""}
RUNNING = {"state": "RUNNING", "error_code": 0, "error_message": ""}
FAILURE = Failure("The test split is empty", where="test.txt", remedy="give it text")


@pytest.fixture
def step(tmp_path, tracking_uri, monkeypatch):
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("WIKIGPT_WEBHOOK", raising=False)

    def step(**notify) -> Step:
        return Step("notify", "run-1", {"notify": notify})

    return step


def notice_of(capsys) -> dict:
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (notice,) = [event for event in events if event["event"] == "notice"]
    return notice


def mlflow_run(step: Step):
    return step.tracking.client.get_run(step.tracking.run_id)


def train(step: Step) -> None:
    """Writes the records of a run that registered a version."""
    client = step.tracking.client
    client.create_registered_model("wikigpt")
    tags = {"wikigpt.test.word_perplexity": "139.204"}
    client.create_model_version("wikigpt", "s3://nowhere/model", tags=tags)
    client.set_registered_model_alias("wikigpt", registry.CHAMPION, "1")
    step.tracking.tags(
        {"wikigpt.decision": "train", "wikigpt.model_version": "wikigpt/1", "wikigpt.verdict": "promote"}
    )


def fail(here: Step, step: str) -> None:
    """Writes the record of a step that fails."""
    record_start(here.store, here.run, step)
    record_failure(here.store, here.run, step, FAILURE, {"report": "runs:/1/validation/report.html"})


def finish(here: Step, step: str, **findings: str) -> None:
    """Writes the record of a step that finishes."""
    record_start(here.store, here.run, step)
    record_finish(here.store, here.run, step, findings)


def test_a_success_is_reported_everywhere(step, receiver, capsys):
    here = step(webhook=receiver.url)
    train(here)
    run(here, SUCCEEDED)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["version"], notice["aliases"]) == ("succeeded", "1", ["champion"])
    assert notice["word_perplexity"] == 139.204
    assert notice["mlflow_run"] == here.tracking.run_id
    (posted,) = receiver.posted
    assert posted.items() <= notice.items()
    assert "version 1 of wikigpt" in posted["text"]
    assert mlflow_run(here).info.status == "FINISHED"


def test_a_failure_carries_what_where_and_remedy(step, receiver, capsys):
    here = step(webhook=receiver.url)
    fail(here, "validate")
    run(here, FAILED)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["step"]) == ("failed", "validate")
    assert Failure.from_dict(notice["failure"]).args == FAILURE.args
    assert receiver.posted[0]["text"] == f"Run run-1 failed in validate: {FAILURE}"
    record = mlflow_run(here)
    assert record.info.status == "FAILED"
    assert str(FAILURE) in record.data.tags["wikigpt.notice"]


def test_a_cancelled_run_ends_as_killed(step, capsys):
    here = step()
    run(here, CANCELED)
    assert notice_of(capsys)["ending"] == "interrupted"
    assert mlflow_run(here).info.status == "KILLED"


def test_a_skip_says_why_and_names_the_version(step, capsys):
    here = step()
    train(here)
    here.tracking.tags({"wikigpt.decision": "skip", "wikigpt.decision_reason": "version 1 already exists"})
    run(here, SUCCEEDED)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["reason"]) == ("skipped", "version 1 already exists")
    assert notice["word_perplexity"] == 139.204


@pytest.mark.parametrize("status", [COMPLETE, RUNNING], ids=["COMPLETE", "RUNNING"])
def test_the_records_of_the_steps_decide_against_the_orchestrator(step, capsys, status):
    here = step()
    train(here)
    finish(here, "download", decision="train", model="wikigpt")
    finish(here, "evaluate", report="runs:/1/reports/evaluation.html")
    finish(here, "register", model="wikigpt", version="1", verdict="promote")
    run(here, status)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["version"], notice["verdict"]) == ("succeeded", "1", "promote")
    assert notice["reports"] == {"evaluate": "runs:/1/reports/evaluation.html"}
    assert mlflow_run(here).info.status == "FINISHED"


def test_a_skip_on_a_cluster_is_announced_as_a_skip(step, capsys):
    here = step()
    train(here)
    finish(here, "download", decision="skip", reason="version 1 exists", model="wikigpt", version="1")
    run(here, RUNNING)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["reason"], notice["word_perplexity"]) == ("skipped", "version 1 exists", 139.204)
    assert mlflow_run(here).info.status == "FINISHED"


def test_a_failed_validation_names_its_report_in_mlflow(step, capsys):
    here = step()
    fail(here, "validate")
    run(here, FAILED)
    assert notice_of(capsys)["reports"] == {"validate": "runs:/1/validation/report.html"}


def test_the_logs_of_the_steps_are_kept_as_artifacts_of_the_mlflow_run(step):
    here = step()
    finish(here, "download")
    fail(here, "train")
    write_log(here.store, here.run, "train", "step 1 loss 9.1\n")
    run(here, FAILED)
    text = mlflow.artifacts.load_text(f"{mlflow_run(here).info.artifact_uri}/logs/train.txt")
    assert text == "step 1 loss 9.1\n"


@pytest.mark.parametrize("address", ["http://[::1", "http://host:port/x", "https://a b/c", "http:///nohost"])
def test_a_webhook_that_is_malformed_fails_no_run_and_leaves_no_mlflow_run_open(step, monkeypatch, caplog, address):
    monkeypatch.setenv("WIKIGPT_WEBHOOK", address)
    here = step()
    run(here, SUCCEEDED)
    assert "not delivered" in caplog.text
    assert mlflow_run(here).info.status == "FINISHED"


def test_the_heartbeat_is_ended_afterwards(step):
    here = step()
    with heartbeat(here.store, "run-1"):
        assert alive(heartbeat_of(here.store, "run-1"))
    run(here, SUCCEEDED)
    assert not alive(heartbeat_of(here.store, "run-1"))


def test_a_webhook_that_fails_does_not_fail_the_run(step, receiver, caplog):
    receiver.answers = [404]
    here = step(webhook=receiver.url)
    run(here, SUCCEEDED)
    assert "not delivered" in caplog.text
    assert mlflow_run(here).info.status == "FINISHED"


def test_the_address_may_come_from_a_variable(step, receiver, monkeypatch):
    monkeypatch.setenv("OUR_WEBHOOK", receiver.url)
    run(step(webhook_variable="OUR_WEBHOOK"), SUCCEEDED)
    assert len(receiver.posted) == 1


def test_without_an_address_nothing_is_posted(step, receiver):
    run(step(), SUCCEEDED)
    assert receiver.posted == []


def test_a_version_that_was_deleted_is_left_out(step, capsys):
    here = step()
    train(here)
    here.tracking.client.delete_registered_model("wikigpt")
    run(here, SUCCEEDED)
    assert notice_of(capsys)["ending"] == "succeeded"
    assert mlflow_run(here).info.status == "FINISHED"


def test_mlflow_that_is_away_is_a_warning(step, receiver, monkeypatch, caplog, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("components.shared.tracking.run.PATIENCE", 0.1)
    here = step(webhook=receiver.url)
    fail(here, "train")
    run(here, FAILED)
    assert notice_of(capsys)["ending"] == "failed"
    assert len(receiver.posted) == 1
    assert "MLflow does not answer" in caplog.text


def test_a_store_that_is_away_is_a_warning(step, receiver, monkeypatch, caplog, capsys):
    """Runs the step as the pipeline does, which opens the store for every other step."""
    for name, value in {
        "ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "ACCESS_KEY_ID": "k",
        "SECRET_ACCESS_KEY": "s",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("WIKIGPT_STORE", "s3://bucket/x")
    monkeypatch.delenv("WIKIGPT_RUN", raising=False)
    with step_of("notify", json.dumps({"notify": {"webhook": receiver.url}}), "run-1", recorded=False) as here:
        run(here, FAILED)
    assert notice_of(capsys)["ending"] == "failed"
    assert len(receiver.posted) == 1
    assert mlflow_run(here).info.status == "FAILED"
    assert "The record of the steps cannot be read" in caplog.text


def test_a_model_that_diverged_is_reported_too(step, receiver):
    here = step(webhook=receiver.url)
    train(here)
    here.tracking.client.set_model_version_tag("wikigpt", "1", "wikigpt.test.word_perplexity", "nan")
    run(here, SUCCEEDED)
    assert receiver.posted[0]["word_perplexity"] is None


@pytest.mark.parametrize(
    ("values", "field"), [({"webhook": "host/path"}, "webhook"), ({"timeout": 0.0}, "timeout"), ({"web": 1}, "web")]
)
def test_a_wrong_setting_is_named(values, field):
    with pytest.raises(Failure, match=f"notify.{field}"):
        parse_section(NotifySettings, values, "notify")
