"""Decides whether a pipeline run is alive: one rule for the training lock, for orphaned MLflow runs, and for `gc`.

The heartbeat of a run is a record in the store that is renewed while one of its steps runs.

- On the machine that wrote the heartbeat, the run is alive as long as the process that it names.
- Elsewhere, a heartbeat that is not renewed within a step is stale after `STALE_AFTER` seconds.
- Between two steps no process renews it, because a pod may wait for a GPU for hours. There the run is alive until its
  deadline, which Kubeflow Pipelines enforces too, or until its end is recorded.
"""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.shared.base.failure import variable_failure
from components.shared.base.ranges import safe_repr
from components.shared.storage.store import Store

BEAT_EVERY = 20.0  # seconds
STALE_AFTER = 180.0  # seconds
DEADLINE_VARIABLE = "WIKIGPT_RUN_DEADLINE_SECONDS"
_OWNER_VARIABLE = "WIKIGPT_OWNER_PID"
_DEADLINE = 86400  # seconds, if the variable is not set
_POLL_EVERY = 2.0  # seconds


def alive(record: dict[str, Any] | None, *, now: float | None = None) -> bool:
    """Whether the run that wrote this heartbeat is alive.

    Args:
        record: see `heartbeat_of`.
        now: seconds since the epoch.
    """
    if record is None or record.get("ended"):
        return False
    if _is_on_this_machine(record):
        return process_started(record["pid"]) == record["process_started"]
    now = time.time() if now is None else now
    if record.get("between_steps"):
        return now < record["deadline"]
    return now - record["beat"] < STALE_AFTER


def wait_until_known(store: Store, pipeline_run: str, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether a run is alive. If only the age of its heartbeat is known, this waits for the next heartbeat.

    A cancelled run does not record its end. A user who starts the same run again therefore waits for at most
    `STALE_AFTER` seconds and is not refused; a run that is alive is recognised within `BEAT_EVERY` seconds.
    """
    first = record = heartbeat_of(store, pipeline_run)
    while alive(record):
        assert record is not None
        if _is_on_this_machine(record) or record.get("between_steps") or (first and record["beat"] != first["beat"]):
            return True
        sleep(_POLL_EVERY)
        record = heartbeat_of(store, pipeline_run)
    return False


def heartbeat_of(store: Store, pipeline_run: str) -> dict[str, Any] | None:
    """The last heartbeat of a run, or None."""
    return store.claimed(_name(pipeline_run))


def end_heartbeat(store: Store, pipeline_run: str) -> None:
    """Records that a run has ended, so that no other run waits for it."""
    store.put_record(_name(pipeline_run), {**_heartbeat(_deadline(store, pipeline_run)), "ended": True})


@contextmanager
def heartbeat(store: Store, pipeline_run: str) -> Iterator[None]:
    """Renews the heartbeat of a run in a thread while a step runs.

    A step that succeeds leaves the run alive between two steps. After a step that fails, a retry or the exit handler
    follows soon or not at all, so the heartbeat is left to become stale.

    Raises:
        Failure: a variable of the environment is not a number.
    """
    over = threading.Event()
    deadline = _deadline(store, pipeline_run)

    def renew() -> None:
        while not over.wait(BEAT_EVERY):
            with suppress(Exception):  # a lost heartbeat does no harm, because the next one follows soon
                store.put_record(_name(pipeline_run), _heartbeat(deadline))

    store.put_record(_name(pipeline_run), _heartbeat(deadline))
    thread = threading.Thread(target=renew, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        over.set()
        raise
    over.set()
    thread.join()  # a heartbeat in progress must not overwrite the last one
    with suppress(Exception):
        store.put_record(_name(pipeline_run), {**_heartbeat(deadline), "between_steps": True})


def _name(pipeline_run: str) -> str:
    return f"heartbeats/{pipeline_run}"


def _deadline(store: Store, pipeline_run: str) -> float:
    """The latest possible end of a run in seconds since the epoch, counted from its first step."""
    known = (heartbeat_of(store, pipeline_run) or {}).get("deadline")
    return known or time.time() + _whole_number(DEADLINE_VARIABLE, _DEADLINE)


def _heartbeat(deadline: float) -> dict[str, Any]:
    # On one machine the variable names the command that started the run, which outlives every step. In a container
    # that pid may not exist or may belong to another process, and then the process of the step counts.
    pid = _whole_number(_OWNER_VARIABLE, os.getpid())
    if process_started(pid) is None:
        pid = os.getpid()
    started = process_started(pid)
    return {"host": _host(), "pid": pid, "process_started": started, "beat": time.time(), "deadline": deadline}


def _whole_number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if re.fullmatch("[0-9]{1,9}", text):
        return int(text)
    raise variable_failure(
        f"{variable} must be a whole number, got {safe_repr(text)}",
        "unset it; `wikigpt run` and `wikigpt submit` set it where it is needed",
    )


def _is_on_this_machine(record: dict[str, Any]) -> bool:
    return record["host"] == _host() and record["process_started"] is not None


def _host() -> str:
    """The scope in which a pid identifies a process: this machine since its boot, and this pid namespace."""
    return f"{socket.gethostname()}/{_boot_id()}/{_namespace()}"


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def process_started(pid: int) -> str | None:
    """The start time of a process, which distinguishes it from a later one with the same pid; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            after_name = stream.read().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self").is_dir():
            return None
        return _probe_by_signal(pid)
    except ProcessLookupError:
        return None
    state, started = after_name[0], after_name[19]
    return None if state == "Z" else started


def _probe_by_signal(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
