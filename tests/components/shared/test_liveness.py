"""A run that lives is told from one that died, also where the kernel gave its number to another process."""

import os
import subprocess
import sys
import time

import pytest

from components.shared import liveness
from components.shared.liveness import STALE_AFTER, alive, beating, end_heartbeat, heartbeat_of
from components.shared.storage.store import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path))


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_a_run_that_beats_lives_and_one_that_never_did_does_not(store):
    assert not alive(heartbeat_of(store, "run"))
    with beating(store, "run"):
        assert alive(heartbeat_of(store, "run"))
    assert alive(heartbeat_of(store, "run")), "between two steps a run lives as long as its command"


def test_a_run_that_ended_does_not_live(store):
    with beating(store, "run"):
        pass
    end_heartbeat(store, "run")
    assert not alive(heartbeat_of(store, "run"))


def test_the_command_is_asked_not_the_step(store, sleeper, monkeypatch):
    monkeypatch.setenv("WIKIGPT_OWNER_PID", str(sleeper.pid))
    with beating(store, "run"):
        pass
    assert heartbeat_of(store, "run")["pid"] == sleeper.pid
    assert alive(heartbeat_of(store, "run"))
    sleeper.kill()
    sleeper.communicate()
    assert not alive(heartbeat_of(store, "run"))


def test_a_command_that_was_killed_but_not_yet_waited_for_is_dead(store, sleeper, monkeypatch):
    monkeypatch.setenv("WIKIGPT_OWNER_PID", str(sleeper.pid))
    with beating(store, "run"):
        pass
    sleeper.kill()
    deadline = time.monotonic() + 10
    while alive(heartbeat_of(store, "run")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(heartbeat_of(store, "run"))


def test_a_recycled_process_number_is_no_life(store):
    with beating(store, "run"):
        record = heartbeat_of(store, "run")
    assert alive(record)
    assert not alive({**record, "process_started": str(int(record["process_started"]) - 1)})


def test_a_number_that_means_nothing_here_is_replaced_by_the_step_s_own(store, sleeper, monkeypatch):
    # In a container the number of the command belongs to nobody, or to somebody else.
    sleeper.kill()
    sleeper.communicate()
    monkeypatch.setenv("WIKIGPT_OWNER_PID", str(sleeper.pid))
    with beating(store, "run"):
        assert heartbeat_of(store, "run")["pid"] == os.getpid()
        assert alive(heartbeat_of(store, "run"))


@pytest.mark.parametrize(("age", "lives"), [(0.0, True), (STALE_AFTER - 1, True), (STALE_AFTER + 1, False)])
def test_on_another_machine_the_age_decides(age, lives):
    record = {"host": "pod-1/boot/pid:[1]", "pid": os.getpid(), "process_started": "1", "beat": 1000.0}
    assert alive(record, now=1000.0 + age) is lives


def test_the_heart_goes_on_beating_and_survives_a_beat_that_is_lost(store, monkeypatch):
    monkeypatch.setattr(liveness, "BEAT_EVERY", 0.02)
    put_record, beats = store.put_record, []

    def flaky(name, record):
        beats.append(name)
        if len(beats) in (2, 3):
            raise OSError("away")
        put_record(name, record)

    store.put_record = flaky
    with beating(store, "run"):
        first = heartbeat_of(store, "run")["beat"]
        deadline = time.monotonic() + 10
        while heartbeat_of(store, "run")["beat"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert heartbeat_of(store, "run")["beat"] > first
    assert len(beats) > 3
