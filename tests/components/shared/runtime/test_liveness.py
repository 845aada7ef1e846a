"""A live run is distinguished from a dead one, even if the kernel reused its pid."""

import os
import subprocess
import sys
import time

import pytest

from components.shared.base.failure import Failure
from components.shared.runtime import liveness
from components.shared.runtime.liveness import (
    BEAT_EVERY,
    STALE_AFTER,
    alive,
    end_heartbeat,
    heartbeat,
    heartbeat_of,
    wait_until_known,
)
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


def test_a_run_with_a_heartbeat_is_alive_and_one_without_is_dead(store):
    assert not alive(heartbeat_of(store, "run"))
    with heartbeat(store, "run"):
        assert alive(heartbeat_of(store, "run"))
    assert alive(heartbeat_of(store, "run")), "between two steps a run lives as long as its command"


def test_a_run_that_ended_is_not_alive(store):
    with heartbeat(store, "run"):
        pass
    end_heartbeat(store, "run")
    assert not alive(heartbeat_of(store, "run"))


@pytest.mark.parametrize("variable", ["WIKIGPT_OWNER_PID", "WIKIGPT_RUN_DEADLINE_SECONDS"])
@pytest.mark.parametrize("value", ["soon", "-1", "1e99", "nan", "1" * 30])
def test_a_variable_that_is_not_a_number_is_named(store, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(Failure, match=f"{variable} must be a whole number, got '{value}'"), heartbeat(store, "run"):
        pass


def test_the_process_of_the_command_decides_and_not_that_of_the_step(store, sleeper, monkeypatch):
    monkeypatch.setenv("WIKIGPT_OWNER_PID", str(sleeper.pid))
    with heartbeat(store, "run"):
        pass
    assert heartbeat_of(store, "run")["pid"] == sleeper.pid
    assert alive(heartbeat_of(store, "run"))
    sleeper.kill()
    sleeper.communicate()
    assert not alive(heartbeat_of(store, "run"))


def test_a_command_that_was_killed_but_not_yet_waited_for_is_dead(store, sleeper, monkeypatch):
    monkeypatch.setenv("WIKIGPT_OWNER_PID", str(sleeper.pid))
    with heartbeat(store, "run"):
        pass
    sleeper.kill()
    deadline = time.monotonic() + 10
    while alive(heartbeat_of(store, "run")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(heartbeat_of(store, "run"))


def test_a_reused_pid_does_not_keep_a_run_alive(store):
    with heartbeat(store, "run"):
        record = heartbeat_of(store, "run")
    assert alive(record)
    assert not alive({**record, "process_started": str(int(record["process_started"]) - 1)})


def test_an_owner_pid_that_does_not_exist_is_replaced_by_that_of_the_step(store, sleeper, monkeypatch):
    # In a container the number of the command belongs to nobody, or to somebody else.
    sleeper.kill()
    sleeper.communicate()
    monkeypatch.setenv("WIKIGPT_OWNER_PID", str(sleeper.pid))
    with heartbeat(store, "run"):
        assert heartbeat_of(store, "run")["pid"] == os.getpid()
        assert alive(heartbeat_of(store, "run"))


HOUR = 3600


def elsewhere(store, run, **fields):
    """Rewrites the heartbeat of a run as one of another machine, whose processes cannot be examined."""
    record = {**heartbeat_of(store, run), "host": "pod-1/boot/pid:[1]", **fields}
    store.put_record(f"heartbeats/{run}", record)
    return record


@pytest.mark.parametrize(("age", "lives"), [(0.0, True), (STALE_AFTER - 1, True), (STALE_AFTER + 1, False)])
def test_on_another_machine_a_heartbeat_that_stops_within_a_step_is_stale_after_minutes(store, age, lives):
    with heartbeat(store, "run"):
        record = elsewhere(store, "run")
    assert STALE_AFTER <= 5 * 60
    assert alive(record, now=record["beat"] + age) is lives


@pytest.mark.parametrize(("age", "lives"), [(1 * HOUR, True), (19 * HOUR, True), (21 * HOUR, False)])
def test_a_run_that_waits_between_two_steps_is_alive_until_its_deadline(store, monkeypatch, age, lives):
    """A pod may wait for a GPU for hours: a long queue does not mean that the run is dead."""
    monkeypatch.setenv("WIKIGPT_RUN_DEADLINE_SECONDS", str(20 * HOUR))
    with heartbeat(store, "run"):
        pass
    record = elsewhere(store, "run")
    assert alive(record, now=record["beat"] + age) is lives


def test_the_deadline_counts_from_the_first_step(store, monkeypatch):
    monkeypatch.setenv("WIKIGPT_RUN_DEADLINE_SECONDS", str(HOUR))
    with heartbeat(store, "run"):
        first = heartbeat_of(store, "run")["deadline"]
    monkeypatch.setenv("WIKIGPT_RUN_DEADLINE_SECONDS", str(9 * HOUR))
    with heartbeat(store, "run"):
        assert heartbeat_of(store, "run")["deadline"] == first


def test_a_step_that_fails_does_not_leave_its_run_waiting(store):
    """After a cancellation no step follows, and the end is not recorded."""
    with pytest.raises(RuntimeError), heartbeat(store, "run"):
        raise RuntimeError
    record = elsewhere(store, "run")
    assert not alive(record, now=record["beat"] + STALE_AFTER + 1)


class Clock:
    """A simulated clock; other machines act while it sleeps."""

    def __init__(self, monkeypatch, start):
        self.now, self.acts = start, lambda now: None
        monkeypatch.setattr(liveness.time, "time", lambda: self.now)

    def sleep(self, seconds):
        self.now += seconds
        self.acts(self.now)


def test_a_run_whose_next_heartbeat_arrives_is_alive(store, monkeypatch):
    with heartbeat(store, "run"):
        begun = elsewhere(store, "run")["beat"]
        clock = Clock(monkeypatch, begun + 1)
        clock.acts = lambda now: elsewhere(store, "run", beat=begun + BEAT_EVERY) if now > begun + BEAT_EVERY else None
        assert wait_until_known(store, "run", sleep=clock.sleep)
    assert clock.now < begun + 2 * BEAT_EVERY


def test_a_cancelled_run_is_dead_within_minutes(store, monkeypatch):
    with heartbeat(store, "run"):
        begun = elsewhere(store, "run")["beat"]
        clock = Clock(monkeypatch, begun + 1)
        assert not wait_until_known(store, "run", sleep=clock.sleep)
    assert STALE_AFTER <= clock.now - begun < STALE_AFTER + 5


def test_a_run_between_two_steps_and_one_that_ended_are_not_waited_for(store):
    for run in ("waiting", "over"):
        with heartbeat(store, run):
            pass
        elsewhere(store, run)
    elsewhere(store, "over", ended=True)
    assert wait_until_known(store, "waiting", sleep=None)
    assert not wait_until_known(store, "over", sleep=None)
    assert not wait_until_known(store, "never-seen", sleep=None)


def test_a_heartbeat_that_is_lost_does_not_stop_the_next_one(store, monkeypatch):
    monkeypatch.setattr(liveness, "BEAT_EVERY", 0.02)
    put_record, beats = store.put_record, []

    def flaky(name, record):
        beats.append(name)
        if len(beats) in (2, 3):
            raise OSError("away")
        put_record(name, record)

    store.put_record = flaky
    with heartbeat(store, "run"):
        first = heartbeat_of(store, "run")["beat"]
        deadline = time.monotonic() + 10
        while heartbeat_of(store, "run")["beat"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert heartbeat_of(store, "run")["beat"] > first
    assert len(beats) > 3
