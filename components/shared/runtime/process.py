"""The process of a step, watched by a parent of its own.

KFP runs a step as one process and learns of its death only that it died. So the step forks before it imports anything
heavy: the child does the work, the parent stays small, passes the output on, keeps a copy of it, and when the child is
killed it knows by which signal, and whether the kernel did it for want of memory.

The copy goes through a pipe that the parent reads for as long as the child lives. So the child never meets a broken
pipe, also where the launcher above both is gone.
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
_DRAIN = 2.0  # seconds for what grandchildren still print
_CGROUPS = (
    (Path("/sys/fs/cgroup/memory.events"), Path("/sys/fs/cgroup/memory.max")),
    (Path("/sys/fs/cgroup/memory/memory.oom_control"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")),
)


@dataclass(frozen=True)
class Death:
    """How the process of a step ended.

    Attributes:
        code: its exit code, or None where a signal ended it.
        number: of that signal, or None.
        out_of_memory: whether the kernel killed a process of this control group for want of memory meanwhile.
        memory_limit: of the control group, bytes; None where there is none.
        log: what the process printed, cut in the middle where it is long.
    """

    code: int | None
    number: int | None
    out_of_memory: bool
    memory_limit: int | None
    log: str

    def describe(self) -> str:
        """What ended it, as the start of a sentence."""
        if self.out_of_memory:
            limit = f": its limit is {self.memory_limit / 2**30:.1f} GiB" if self.memory_limit else ""
            return f"The kernel killed the step because it ran out of memory{limit}"
        name = signal.Signals(self.number).name if self.number else f"exit code {self.code}"
        return f"The process of the step was ended by {name}"


def is_step_process() -> bool:
    """Whether this process was started by KFP to run one step, and nothing else."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec is not None and spec.name == _EXECUTOR


def watch_this_process(ended: Callable[[Death], None]) -> None:
    """Forks. Returns in the child, which goes on with the step; the parent ends as the child did.

    Args:
        ended: called in the parent when the child has ended, before the parent does. What it raises is printed.
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
    _die_with(parent)
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
    # The counter is of the whole control group: it speaks of this process only where this process was killed.
    starved = number == signal.SIGKILL and _oom_kills() > kills
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        ended(Death(code, number, starved, _memory_limit(), log.text()))
    except Exception as error:
        print(f"The end of the step could not be recorded: {error}", file=sys.stderr)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError):
                stream.flush()
        os._exit(code if code is not None else 128 + (number or 0))


def _relay(child: int, streams: dict[int, int], log: _Log) -> int:
    """Passes on what the child prints until it has ended; returns its wait status."""
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
                with suppress(OSError):  # whoever reads the output may be gone; that changes nothing for the step
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
    """Whole lines of a stream, without secrets: what any library printed ends up in logs that people share."""

    def __init__(self) -> None:
        self.rest = b""

    def cut(self, data: bytes) -> bytes:
        """The lines that are whole with these bytes; all that is left where there are none, at the stream's end."""
        self.rest += data
        end = max(self.rest.rfind(b"\n"), self.rest.rfind(b"\r")) + 1
        if not data or len(self.rest) - end > _LONGEST_LINE:
            end = len(self.rest)
        whole, self.rest = self.rest[:end], self.rest[end:]
        # kfp.local reads what a step prints as text, and fails on other bytes.
        return redact(whole.decode(errors="backslashreplace")).encode()


class _Log:
    """The beginning and the end of what a step printed."""

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


def _die_with(parent: int) -> None:
    """Lets the kernel kill this process when its parent is killed: nobody would follow it any more."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)


def _oom_kills() -> int:
    """How often the kernel has killed in this control group for want of memory; 0 where nobody counts."""
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
