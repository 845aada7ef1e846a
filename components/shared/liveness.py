"""Whether a pipeline run still lives: one notion, for the lease on a training and for sweeping dead runs.

The heartbeat of a run is a claim in the store. On the machine that wrote it the process is asked; elsewhere its age
decides, generously, since a step on a cluster may wait long for its pod while nobody can beat.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.shared.storage.store import Store

STALE_AFTER = 3600.0  # seconds
BEAT_EVERY = 20.0  # seconds


def alive(record: dict[str, Any] | None, *, now: float | None = None) -> bool:
    """Whether the run that wrote this heartbeat lives."""
    if record is None or record.get("ended"):
        return False
    if record["host"] == _host() and record["process_started"] is not None:
        return process_started(record["pid"]) == record["process_started"]
    return (time.time() if now is None else now) - record["beat"] < STALE_AFTER


def heartbeat_of(store: Store, pipeline_run: str) -> dict[str, Any] | None:
    """The newest heartbeat of a run, or None."""
    return store.claimed(_name(pipeline_run))


def end_heartbeat(store: Store, pipeline_run: str) -> None:
    """Says that a run is over, so that nobody waits for it."""
    store.put_record(_name(pipeline_run), {**_beat(), "ended": True})


@contextmanager
def beating(store: Store, pipeline_run: str) -> Iterator[None]:
    """Renews the heartbeat of a run, in a thread, for as long as the block runs."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_EVERY):
            try:
                store.put_record(_name(pipeline_run), _beat())
            except Exception:
                continue  # a beat that is lost costs nothing; the next one is soon

    store.put_record(_name(pipeline_run), _beat())
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def _name(pipeline_run: str) -> str:
    return f"heartbeats/{pipeline_run}"


def _beat() -> dict[str, Any]:
    # Locally the command that started the run outlives every step and is named by this variable.
    # In a container the number means nothing, or another process: there the step speaks for itself.
    pid = int(os.environ.get("WIKIGPT_OWNER_PID") or os.getpid())
    if process_started(pid) is None:
        pid = os.getpid()
    return {"host": _host(), "pid": pid, "process_started": process_started(pid), "beat": time.time()}


def _host() -> str:
    """Where a process number means the same process: this machine since its start, and this namespace of processes."""
    return f"{socket.gethostname()}/{_boot_id()}/{_namespace()}"


def _boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
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
        with open(f"/proc/{pid}/stat") as stream:
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
