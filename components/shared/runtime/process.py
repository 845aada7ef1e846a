"""Runs a step in a child process that a small parent process watches.

KFP runs a step as one process and does not report why it died. The step therefore forks before it imports
anything large. The child does the work. The parent passes its output on and keeps a copy, and if the child is killed,
the parent knows the signal and whether the kernel killed the child because memory ran out.

The output goes through a pipe that the parent reads as long as the child lives, so the child never gets a broken pipe,
even if the launcher above both is gone.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from components.shared.base.redact import redact

_EXECUTOR = "kfp.dsl.executor_main"
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_HEAD, _TAIL = 64 << 10, 960 << 10  # bytes of a log that are kept
_LONGEST_LINE = 1 << 16  # bytes
_DRAIN = 2.0  # seconds to wait for the output of grandchildren
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory.max")),
    (Path("/sys/fs/cgroup/memory/memory.oom_control"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")),
)


@dataclass(frozen=True)
class Death:
    """The end of the process of a step.

    Attributes:
        code: its exit code, or None if a signal ended it.
        number: the number of that signal, or None.
        out_of_memory: whether the kernel killed a process of this cgroup because memory ran out.
        memory_limit: the memory limit of the cgroup in bytes, or None.
        log: the output of the process; the middle of a long output is left out.
    """

    code: int | None
    number: int | None
    out_of_memory: bool
    memory_limit: int | None
    log: str

    def describe(self) -> str:
        """The cause of the end, as the start of a sentence."""
        if self.out_of_memory:
            limit = f": its limit is {self.memory_limit / 2**30:.1f} GiB" if self.memory_limit else ""
            return f"The kernel killed the step because it ran out of memory{limit}"
        name = signal.Signals(self.number).name if self.number else f"exit code {self.code}"
        return f"The process of the step was ended by {name}"


def is_step_process() -> bool:
    """Whether KFP started this process to run one step."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == _EXECUTOR


def watch_this_process(ended: Callable[[Death], None]) -> None:
    """Forks. Only the child returns and runs the step; the parent exits with the exit code of the child.

    Args:
        ended: called in the parent between the end of the child and its own. An exception that it raises is printed.
    """
    kills = _oom_kills()
    out, err = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    if child := os.fork():
        os.close(out[1])
        os.close(err[1])
        _follow(child, {out[0]: 1, err[0]: 2}, kills, ended)
    kill_when_parent_dies(parent)
    for pipe, target in ((out, 1), (err, 2)):
        os.close(pipe[0])
        os.dup2(pipe[1], target)
        os.close(pipe[1])


def _follow(child: int, streams: dict[int, int], kills: int, ended: Callable[[Death], None]) -> NoReturn:
    def forward(number: int, frame: FrameType | None) -> None:
        os.kill(child, number)

    signal.signal(signal.SIGTERM, forward)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the child too
    log = _Log()
    status = _relay(child, streams, log)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
    code = None if number else os.WEXITSTATUS(status)
    # The counter is of the whole cgroup, so it concerns this process only if this process was killed.
    out_of_memory = number == signal.SIGKILL and _oom_kills() > kills
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ended(Death(code, number, out_of_memory, _memory_limit(), log.text()))
    except Exception as error:
        print(f"The end of the step could not be recorded: {error}", file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code if code is not None else 128 + (number or 0))


def _relay(child: int, streams: dict[int, int], log: _Log) -> int:
    """Passes on the output of the child until it ends; returns its wait status."""
    status: int | None = None
    until, lines = float("inf"), {source: _Lines() for source in streams}
    with selectors.DefaultSelector() as selector:
        for source in streams:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map() and time.monotonic() < until:
            for key, _ in selector.select(timeout=0.1):
                read = os.read(key.fd, 1 << 16)
                if not read:
                    selector.unregister(key.fd)
                data = lines[key.fd].cut(read)
                log.add(data)
                with suppress(OSError):  # the reader of the output may be gone, which must not fail the step
                    _write(streams[key.fd], data)
            if status is None:
                ended, seen = os.waitpid(child, os.WNOHANG)
                if ended:
                    status, until = seen, time.monotonic() + _DRAIN
    return os.waitpid(child, 0)[1] if status is None else status


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


class _Lines:
    """Splits a stream into whole lines and redacts them: the output of libraries reaches logs that people share."""

    def __init__(self) -> None:
        self.rest = b""

    def cut(self, data: bytes) -> bytes:
        """The lines that these bytes complete; the whole rest at the end of the stream, where `data` is empty."""
        self.rest += data
        end = max(self.rest.rfind(b"\n"), self.rest.rfind(b"\r")) + 1
        if not data or len(self.rest) - end > _LONGEST_LINE:
            end = len(self.rest)
        whole, self.rest = self.rest[:end], self.rest[end:]
        # kfp.local decodes the output of a step as UTF-8 and fails on other bytes.
        return redact(whole.decode(errors="backslashreplace")).encode()


class _Log:
    """The beginning and the end of the output of a step."""

    def __init__(self) -> None:
        self.head, self.tail, self.cut = bytearray(), bytearray(), False

    def add(self, data: bytes) -> None:
        room = _HEAD - len(self.head)
        self.head += data[:room] if room > 0 else b""
        self.tail += data[room:] if room > 0 else data
        if len(self.tail) > 2 * _TAIL:
            del self.tail[:-_TAIL]
            self.cut = True

    def text(self) -> str:
        middle = b"\n[...]\n" if self.cut else b""
        return bytes(self.head + middle + self.tail).decode(errors="replace")


def kill_when_parent_dies(parent: int) -> None:
    """Makes the kernel kill this process when its parent is killed, because no process would watch it any more."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def _oom_kills() -> int:
    """The number of processes of this cgroup that the kernel killed because memory ran out; 0 without a cgroup."""
    for events, _ in _CGROUPS:
        for line in _lines(events):
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _memory_limit() -> int | None:
    for _, limit in _CGROUPS:
        for line in _lines(limit):
            return int(line) if line.isdigit() and int(line) < 1 << 60 else None
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
