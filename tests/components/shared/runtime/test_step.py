"""The context of a step, tested from outside its process."""

import json
import os
import signal
import subprocess
import sys
import time

from components.shared.base.events import parse
from components.shared.base.failure import Failure
from components.shared.runtime.liveness import alive, heartbeat_of
from components.shared.runtime.run_record import read_record, record_failure, record_start
from components.shared.runtime.step import sections_for
from pipelines.config.settings import SECTIONS
from pipelines.steps import TITLES

_STEP = """
import sys, time
from dataclasses import dataclass
from components.shared.base.failure import ExitCode, Failure
from components.shared.runtime.step import step

@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    seed: int = 0

with step("train", sys.argv[1], "kfp-run") as here:
    {body}
"""


def start(store, body, settings='{"train": {}}', **variables):
    env = {key: value for key, value in os.environ.items() if not key.startswith("WIKIGPT_")}
    if store is not None:
        env["WIKIGPT_STORE"] = store.uri
    command = [sys.executable, "-c", _STEP.replace("{body}", body), settings]
    return subprocess.Popen(
        command, env={**env, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, [event for line in out.splitlines() if (event := parse(line))], err


def run(store, body, **more):
    return finish(start(store, body, **more))


def test_a_step_that_succeeds_emits_its_end_and_leaves_its_heartbeat(store):
    code, events, _ = run(store, "here.store.claim('x', {'seed': here.section(TrainSettings).seed})")
    assert code == 0
    assert [event["event"] for event in events] == ["step-started", "step-finished"]
    assert events[0]["run"] == "kfp-run"
    assert store.claimed("x") == {"seed": 0}
    assert read_record(store, "kfp-run")["train"].state == "finished"
    assert heartbeat_of(store, "kfp-run") is not None
    assert not alive(heartbeat_of(store, "kfp-run"))


def test_the_run_id_of_a_command_overrides_that_of_the_orchestrator(store):
    _, events, _ = run(store, "pass", WIKIGPT_RUN="laptop-run")
    assert events[0]["run"] == "laptop-run"


def test_a_failure_ends_the_process_with_its_exit_code_and_is_recorded(store):
    body = "raise Failure('The token expired', where='hub', remedy='log in', exit_code=ExitCode.UNAUTHORISED)"
    code, events, err = run(store, body)
    assert code == 6
    expected = {"what": "The token expired", "where": "hub", "remedy": "log in", "exit_code": 6}
    assert read_record(store, "kfp-run")["train"].failure.to_dict() == expected
    assert events[-1].items() >= {"event": "step-failed", "step": "train", **expected}.items()
    assert err.splitlines() == ["The token expired (hub): log in."]


def test_a_wrong_setting_is_wrong_usage(store):
    code, _, err = run(store, "here.section(TrainSettings)", settings='{"train": {"sed": 1}}')
    assert code == 2
    assert "did you mean train.seed?" in err


def test_a_step_receives_no_settings_of_another(store):
    settings = '{"profile": "quick", "download": {"force": true}, "train": {"seed": 3}, "evaluate": {"window": 4}}'
    body = "here.store.claim('x', here.settings)"
    code, _, _ = run(store, body, settings=settings)
    assert (code, store.claimed("x")) == (0, {"train": {"seed": 3}})
    code, events, _ = run(store, "here.section(TrainSettings, 'evaluate')", settings=settings)
    assert (code, events[-1]["what"]) == (1, "KeyError: 'evaluate'")


def test_only_download_receives_all_settings_and_few_steps_those_of_another_section():
    sections = {name: {} for name in ("profile", *SECTIONS)}
    received = {name: tuple(sections_for(name, json.dumps(sections))) for name in TITLES}
    assert received.pop("download") == tuple(sections)
    assert received.pop("train") == ("train", "checkpoints")
    for name in ("validate", "evaluate"):  # they ask who may move the alias champion
        assert received.pop(name) == (name, "register")
    assert received == {name: (name,) for name in received}


def test_an_unexpected_error_becomes_a_failure_that_points_to_the_traceback(store):
    code, events, err = run(store, "{}['gone']")
    assert code == 1
    assert events[-1]["what"] == "KeyError: 'gone'"
    assert "Traceback" in err
    assert read_record(store, "kfp-run")["train"].failure.where == "step train"


def test_sigterm_ends_a_step_resumably(store):
    process = start(store, "print('ready', flush=True); time.sleep(60)")
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    code, events, _ = finish(process)
    assert code == 75
    assert events[-1]["event"] == "step-failed"
    assert read_record(store, "kfp-run")["train"].failure.exit_code == 75


def test_a_library_that_catches_every_error_does_not_swallow_sigterm(store):
    body = (
        "print('ready', flush=True)\n    while True:\n        try:\n            time.sleep(60)\n"
        "        except Exception:\n            pass"
    )
    process = start(store, body)
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 75


def test_the_findings_of_a_step_are_recorded_even_if_it_fails(store):
    run(store, "here.findings.update(version='7')")
    assert read_record(store, "kfp-run")["train"].findings == {"version": "7"}
    run(store, "here.findings.update(report='runs:/1/report.html'); {}['gone']")
    assert read_record(store, "kfp-run")["train"].findings == {"report": "runs:/1/report.html"}


def test_the_failure_of_an_attempt_is_overwritten_by_the_next_one(store):
    failure = Failure("503", where="s3", remedy="try again")
    for name in ("download", "train"):
        record_start(store, "kfp-run", name)
        record_failure(store, "kfp-run", name, failure, {})
    run(store, "pass")
    states = {name: step.state for name, step in read_record(store, "kfp-run").items()}
    assert states == {"download": "failed", "train": "finished"}


def kill_reader_then_sigterm(store, body, **variables):
    """As on a cluster, where the launcher that reads the step's output dies at SIGTERM before the step does."""
    process = start(store, body, **variables)
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    process.stdout.close()
    process.send_signal(signal.SIGTERM)
    process.stderr.close()
    return process.wait(60)


def test_a_step_whose_reader_is_gone_keeps_its_reason_and_its_exit_code(store):
    assert kill_reader_then_sigterm(store, "print('ready', flush=True); time.sleep(60)") == 75
    seen = read_record(store, "kfp-run")["train"]
    assert (seen.state, seen.failure.exit_code) == ("failed", 75)


def test_a_step_whose_reader_is_gone_succeeds(store):
    body = (
        "from components.shared.base.events import emit\n    time.sleep(0.5)\n"
        "    for number in range(3):\n        emit('progress', done=number)\n        print(number, flush=True)"
    )
    process = start(store, body)
    assert process.stdout.readline().startswith('{"event": "step-started"')
    process.stdout.close()
    assert process.wait(60) == 0
    assert read_record(store, "kfp-run")["train"].state == "finished"


def test_a_second_sigterm_is_ignored(store):
    body = "print('ready', flush=True)\n    try:\n        time.sleep(60)\n    finally:\n        time.sleep(0.5)"
    process = start(store, body)
    while process.stdout.readline() != "ready\n":
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    code, _, _ = finish(process)
    assert code == 75
    assert read_record(store, "kfp-run")["train"].failure.exit_code == 75


def test_a_run_that_was_asked_to_stop_starts_no_further_step(store, tmp_path):
    (tmp_path / "stop").touch()
    code, _, err = run(store, "here.store.claim('x', {})", WIKIGPT_STOP=str(tmp_path / "stop"))
    assert code == 75
    assert "asked to stop before this step began" in err
    assert store.claimed("x") is None


def test_a_step_without_a_store_names_the_missing_variable():
    code, events, err = run(None, "pass")
    assert code == 2
    assert "WIKIGPT_STORE is not set" in err
    assert events[-1]["event"] == "step-failed"


def test_an_unreachable_store_is_tried_only_once():
    variables = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}
    code, events, err = run(None, "pass", WIKIGPT_STORE="s3://bucket/x", AWS_MAX_ATTEMPTS="1", **variables)
    assert code == 3
    assert "cannot be reached" in events[-1]["what"]
    assert "http://127.0.0.1:9" in events[-1]["where"]
    assert len(err.strip().splitlines()) == 1


def test_settings_are_passed_as_json(store):
    code, _, _ = run(store, "here.store.claim('x', here.settings)", settings=json.dumps({"train": {"seed": 3}}))
    assert code == 0
    assert store.claimed("x") == {"train": {"seed": 3}}
