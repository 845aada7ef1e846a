"""Starts a run in its own process group, follows its log, and stops or kills the group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipelines.config.process_environment import child_variables
from pipelines.config.utf8 import CHILDREN
from pipelines.local.dag import GRACE

_POLL = 0.1  # seconds


@dataclass
class Supervised:
    """A run in child processes.

    Attributes:
        process: the leader of the group, `python -m pipelines.local.dag`.
        log: everything that the group prints. It is a file, so no reader can block a step.
        stop_marker: a file that exists once the run was asked to stop.
    """

    process: subprocess.Popen[bytes]
    log: Path
    stop_marker: Path

    def lines(self) -> Iterator[str]:
        """Yields the lines of the log as they are written, until the run has ended."""
        with open(self.log, encoding="utf-8", errors="replace") as stream:
            line = ""
            while True:
                ended = self.process.poll() is not None
                while part := stream.readline():
                    line += part
                    if line.endswith("\n"):
                        yield line.rstrip("\n")
                        line = ""
                if ended:
                    return
                time.sleep(_POLL)

    def stop(self) -> None:
        """Asks every step to stop: training saves a checkpoint, and notify still runs."""
        self.stop_marker.touch()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills the processes of the group."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def start(folder: Path, environment: dict[str, str], lock: int) -> Supervised:
    """Starts the run of a folder with parameters.json and plan.json.

    Args:
        folder: the folder of the run.
        environment: variables that are added to those of this process.
        lock: a file descriptor that the run keeps open, see `scratch_folder`.
    """
    stop_marker = folder / "stop"
    return Supervised(
        process=_launch(folder, {**environment, "WIKIGPT_STOP": str(stop_marker)}, lock=lock),
        log=folder / "log.txt",
        stop_marker=stop_marker,
    )


def run_notify(folder: Path, environment: dict[str, str], state: str, lock: int) -> None:
    """Runs the notify step of a run that was killed before its exit handler ran. The arguments are those of `start`."""
    with suppress(subprocess.TimeoutExpired):
        _launch(folder, environment, state, lock=lock).wait(GRACE)


def _launch(folder: Path, environment: dict[str, str], *arguments: str, lock: int) -> subprocess.Popen[bytes]:
    with open(folder / "log.txt", "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.local.dag", str(folder), *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment, **child_variables(), **CHILDREN, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
            pass_fds=[lock],
        )
