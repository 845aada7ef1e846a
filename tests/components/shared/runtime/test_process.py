"""The process of a step is killed in every way; its parent reports how, and keeps all of its output."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from components.shared.base.events import parse
from components.shared.runtime import process
from components.shared.runtime.process import Death
from components.shared.runtime.run_record import read_log, read_record

_STEP = """
import os, signal, sys, time
import components.shared.runtime.step as boundary
boundary.is_step_process = lambda: True
with boundary.step("train", '{"train": {}}', "kfp-run") as here:
    {body}
"""


def start(store, body, **variables):
    env = {key: value for key, value in os.environ.items() if not key.startswith("WIKIGPT_")}
    return subprocess.Popen(
        [sys.executable, "-c", _STEP.replace("{body}", body)],
        env={**env, "WIKIGPT_STORE": store.uri, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(started):
    out, err = started.communicate(timeout=60)
    return started.returncode, out, err


def children(parent):
    return [process.pid for process in psutil.Process(parent).children()]


def wait_for(started, word):
    while (line := started.stdout.readline()) != f"{word}\n":
        assert started.poll() is None, line


def test_output_exit_code_and_record_are_those_of_the_step(store):
    code, out, err = finish(start(store, "print('to stdout'); print('to stderr', file=sys.stderr); sys.exit(3)"))
    assert code == 3
    assert "to stdout" in out and "to stderr" in err
    log = read_log(store, "kfp-run", "train")
    assert "to stdout" in log and "to stderr" in log


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV"), (signal.SIGABRT, "SIGABRT")]
)
def test_a_killed_step_is_recorded_with_its_signal_and_its_last_lines(store, number, name):
    body = f"print('reading shard 7', flush=True); os.kill(os.getpid(), {int(number)})"
    code, out, err = finish(start(store, body))
    assert code == 128 + number
    failure = read_record(store, "kfp-run")["train"].failure
    assert failure.what == f"The process of the step was ended by {name}; its last lines were: reading shard 7"
    (failed,) = [event for line in out.splitlines() if (event := parse(line)) and event["event"] == "step-failed"]
    assert failed.items() >= failure.to_dict().items()
    assert str(failure) in err


@pytest.mark.parametrize("events", ["oom_kill {}", "oom_kill_disable 0\nunder_oom 0\noom_kill {}"], ids=["v2", "v1"])
def test_a_step_that_ran_out_of_memory_is_reported_as_such(store, tmp_path, events, monkeypatch):
    """The files are those that the kernel documents for control groups, version 2 and 1; the kill is a real one."""
    counter, limit = tmp_path / "events", tmp_path / "limit"
    counter.write_text(events.format(4))
    limit.write_text("2147483648\n")
    body = f"open({str(counter)!r}, 'w').write({events.format(5)!r}); os.kill(os.getpid(), 9)"
    prepare = (
        "from components.shared.runtime import process; from pathlib import Path\n"
        f"process._CGROUPS = ((Path({str(counter)!r}), Path({str(limit)!r})),)\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "_STEP", prepare + _STEP)
    finish(start(store, body))
    failure = read_record(store, "kfp-run")["train"].failure
    assert failure.what.startswith("The kernel killed the step because it ran out of memory: its limit is 2.0 GiB")
    assert "cluster.train.memory_limit" in failure.remedy


def test_another_process_that_ran_out_of_memory_is_ignored():
    assert "memory" not in Death(1, None, False, 1 << 30, "").describe()


def test_bytes_that_are_not_utf_8_are_escaped(store):
    """kfp.local decodes the output of a step as UTF-8, and would fail the whole run on another byte."""
    _, out, _ = finish(start(store, "sys.stdout.buffer.write('é 語 '.encode() + b'\\xff\\n'); sys.stdout.flush()"))
    assert "é 語 \\xff" in out


def test_sigterm_reaches_the_step(store):
    started = start(store, "print('ready', flush=True); time.sleep(60)")
    wait_for(started, "ready")
    started.send_signal(signal.SIGTERM)
    assert finish(started)[0] == 75
    assert read_record(store, "kfp-run")["train"].failure.exit_code == 75


def test_a_library_that_prints_after_the_reader_is_gone_does_not_fail_the_step(store):
    started = start(store, "print('ready', flush=True); time.sleep(0.5); print('x' * 100_000, flush=True)")
    wait_for(started, "ready")
    started.stdout.close()
    assert started.wait(60) == 0
    assert read_record(store, "kfp-run")["train"].state == "finished"


def test_the_step_ends_if_its_parent_is_killed(store):
    started = start(store, "print('ready', flush=True); time.sleep(60)")
    wait_for(started, "ready")
    (child,) = children(started.pid)
    started.kill()
    started.communicate()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()


def test_a_long_log_keeps_its_beginning_and_its_end(monkeypatch):
    monkeypatch.setattr(process, "_HEAD", 10)
    monkeypatch.setattr(process, "_TAIL", 10)
    log = process._Log()
    for _ in range(100):
        log.add(b"0123456789")
    log.add("größer".encode())
    assert log.text().startswith("0123456789\n[...]\n")
    assert log.text().endswith("größer")
    assert len(log.text()) < 50


def test_an_unreachable_store_at_the_end_keeps_the_exit_code(store):
    body = "os.environ['WIKIGPT_STORE'] = ''; sys.exit(3)"
    assert finish(start(store, body))[0] == 3


def test_only_the_executor_of_kfp_is_watched():
    code = "from components.shared.runtime.process import is_step_process as f; print(f())"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout == "False\n"
