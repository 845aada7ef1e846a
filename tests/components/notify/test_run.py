"""The exit handler as the pipeline and the command call it, with a real store and a real registry."""

import json

import pytest

from components.notify.run import run
from components.notify.settings import NotifySettings
from components.shared import registry
from components.shared.failure import Failure
from components.shared.liveness import alive, beating, heartbeat_of
from components.shared.settings import parse_section
from components.shared.step import Step
from components.shared.step import step as step_of

SUCCEEDED = {"state": "SUCCEEDED", "error_code": 0, "error_message": ""}
FAILED = {"state": "FAILED", "error_code": 1, "error_message": "Inner task failed"}
CANCELLED = {"state": "CANCELLED", "error_code": 0, "error_message": ""}
FAILURE = Failure("The test split is empty", where="test.txt", remedy="give it text")


@pytest.fixture
def step(tmp_path, tracking_uri, monkeypatch):
    monkeypatch.setenv("WIKIGPT_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("WIKIGPT_WEBHOOK", raising=False)

    def step(**notify) -> Step:
        return Step("notify", "night-1", {"notify": notify})

    return step


def notice_of(capsys) -> dict:
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (notice,) = [event for event in events if event["event"] == "notice"]
    return notice


def mlflow_run(step: Step):
    return step.tracking.client.get_run(step.tracking.run_id)


def train(step: Step) -> None:
    """Leaves what the steps leave of a run that registered a version."""
    client = step.tracking.client
    client.create_registered_model("wikigpt")
    tags = {"wikigpt.test.word_perplexity": "139.204"}
    client.create_model_version("wikigpt", "s3://nowhere/model", tags=tags)
    client.set_registered_model_alias("wikigpt", registry.CHAMPION, "1")
    step.tracking.tags(
        {"wikigpt.decision": "train", "wikigpt.model_version": "wikigpt/1", "wikigpt.verdict": "promote"}
    )


def test_a_success_is_told_everywhere(step, receiver, capsys):
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
    here.store.put_record("failures/night-1", {"step": "validate", **FAILURE.to_dict()})
    run(here, FAILED)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["step"]) == ("failed", "validate")
    assert Failure.from_dict(notice["failure"]).args == FAILURE.args
    assert receiver.posted[0]["text"] == f"Run night-1 failed in validate: {FAILURE}"
    record = mlflow_run(here)
    assert record.info.status == "FAILED"
    assert str(FAILURE) in record.data.tags["wikigpt.notice"]


def test_a_cancelled_run_ends_as_killed(step, capsys):
    here = step()
    run(here, CANCELLED)
    assert notice_of(capsys)["ending"] == "interrupted"
    assert mlflow_run(here).info.status == "KILLED"


def test_a_skip_says_why_and_which_version_stands(step, capsys):
    here = step()
    train(here)
    here.tracking.tags({"wikigpt.decision": "skip", "wikigpt.decision_reason": "version 1 is already made"})
    run(here, SUCCEEDED)
    notice = notice_of(capsys)
    assert (notice["ending"], notice["reason"]) == ("skipped", "version 1 is already made")
    assert notice["word_perplexity"] == 139.204


def test_the_run_no_longer_lives_afterwards(step):
    here = step()
    with beating(here.store, "night-1"):
        assert alive(heartbeat_of(here.store, "night-1"))
        run(here, SUCCEEDED)
    assert not alive(heartbeat_of(here.store, "night-1"))


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
    here = step(webhook=receiver.url)
    here.store.put_record("failures/night-1", {"step": "train", **FAILURE.to_dict()})
    run(here, FAILED)
    assert notice_of(capsys)["ending"] == "failed"
    assert len(receiver.posted) == 1
    assert "MLflow does not answer" in caplog.text


def test_a_store_that_is_away_is_a_warning(step, receiver, monkeypatch, caplog, capsys):
    """As the step that the pipeline runs, which opens the store for any other."""
    for name, value in {
        "ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "ACCESS_KEY_ID": "k",
        "SECRET_ACCESS_KEY": "s",
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("WIKIGPT_STORE", "s3://bucket/x")
    monkeypatch.delenv("WIKIGPT_RUN", raising=False)
    with step_of("notify", json.dumps({"notify": {"webhook": receiver.url}}), "night-1", lives=False) as here:
        run(here, FAILED)
    assert notice_of(capsys)["ending"] == "failed"
    assert len(receiver.posted) == 1
    assert mlflow_run(here).info.status == "FAILED"
    assert "Why the run ended is not known" in caplog.text


def test_a_model_that_diverged_is_told_of_too(step, receiver):
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
