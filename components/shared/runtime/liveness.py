"""Whether a pipeline run is alive: one rule for the lock on a training, for killed MLflow runs, and for `gc`.

The heartbeat of a run is a record in the store, renewed while one of its steps runs.

- On the machine that wrote it, the process is asked.
- Elsewhere, a heartbeat that stops within a step is stale after `STALE_AFTER` seconds.
- Between two steps nobody can renew it: a pod may wait for a GPU for hours. There the run is alive until its deadline,
  which Kubeflow Pipelines enforces too, or until its end is recorded.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.shared.storage.store import Store

BEAT_EVERY = 20.0  # seconds
STALE_AFTER = 180.0  # seconds
DEADLINE_VARIABLE = "WIKIGPT_RUN_DEADLINE_SECONDS"
_DEADLINE = 86400.0  # seconds, where the variable is not set
_LOOK_EVERY = 2.0  # seconds


def alive(record: dict[str, Any] | None, *, now: float | None = None) -> bool:
    """Whether the run that wrote this heartbeat is alive.

    Args:
        record: see `heartbeat_of`.
        now: seconds since the epoch.
    """
    if record is None or record.get("ended"):
        return False
    if _is_of_this_machine(record):
        return process_started(record["pid"]) == record["process_started"]
    now = time.time() if now is None else now
    if record.get("between_steps"):
        return now < record["deadline"]
    return now - record["beat"] < STALE_AFTER


def observe(store: Store, pipeline_run: str, *, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Whether a run is alive for certain: where only the age of a heartbeat tells, the next heartbeat is awaited.

    After a cancel nobody records the end of a run. Whoever starts the same run again waits here for `STALE_AFTER`
    seconds at most, instead of being refused; a run that is alive is recognised within `BEAT_EVERY` seconds.
    """
    first = record = heartbeat_of(store, pipeline_run)
    while alive(record):
        assert record is not None
        if _is_of_this_machine(record) or record.get("between_steps") or (first and record["beat"] != first["beat"]):
            return True
        sleep(_LOOK_EVERY)
        record = heartbeat_of(store, pipeline_run)
    return False


def heartbeat_of(store: Store, pipeline_run: str) -> dict[str, Any] | None:
    """The newest heartbeat of a run, or None."""
    return store.claimed(_name(pipeline_run))


def end_heartbeat(store: Store, pipeline_run: str) -> None:
    """Records that a run is over, so that nobody waits for it."""
    store.put_record(_name(pipeline_run), {**_heartbeat(_deadline(store, pipeline_run)), "ended": True})


@contextmanager
def heartbeat(store: Store, pipeline_run: str) -> Iterator[None]:
    """Renews the heartbeat of a run, in a thread, for as long as a step runs.

    A step that ends well leaves the run alive between two steps. After one that fails, a retry or the exit handler
    follows soon, or nothing at all: the heartbeat is left to become stale.
    """
    over = threading.Event()
    deadline = _deadline(store, pipeline_run)

    def renew() -> None:
        while not over.wait(BEAT_EVERY):
            with suppress(Exception):  # a heartbeat that is lost costs nothing; the next one is soon
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
    thread.join()  # or a heartbeat that is on its way would outlive the last one
    with suppress(Exception):
        store.put_record(_name(pipeline_run), {**_heartbeat(deadline), "between_steps": True})


def _name(pipeline_run: str) -> str:
    return f"heartbeats/{pipeline_run}"


def _deadline(store: Store, pipeline_run: str) -> float:
    """Seconds since the epoch at which a run is over at the latest, counted from its first step."""
    known = (heartbeat_of(store, pipeline_run) or {}).get("deadline")
    return known or time.time() + float(os.environ.get(DEADLINE_VARIABLE) or _DEADLINE)


def _heartbeat(deadline: float) -> dict[str, Any]:
    # Locally the command that started the run outlives every step and is named by this variable.
    # In a container the number means nothing, or another process: there the step speaks for itself.
    pid = int(os.environ.get("WIKIGPT_OWNER_PID") or os.getpid())
    if process_started(pid) is None:
        pid = os.getpid()
    started = process_started(pid)
    return {"host": _host(), "pid": pid, "process_started": started, "beat": time.time(), "deadline": deadline}


def _is_of_this_machine(record: dict[str, Any]) -> bool:
    return record["host"] == _host() and record["process_started"] is not None


def _host() -> str:
    """Where a process number means the same process: this machine since its start, and this namespace of processes."""
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
    """The start time of a process, which tells it from a later one with the same number; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            after_name = stream.read().rpartition(")")[2].split()
    except FileNotFoundError:
        if Path("/proc/self").is_dir():
            return None
        return _asked_by_signal(pid)
    except ProcessLookupError:
        return None
    state, started = after_name[0], after_name[19]
    return None if state == "Z" else started


def _asked_by_signal(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "alive"
