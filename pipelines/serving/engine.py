"""Starts an OpenAI-compatible inference engine on the folder of a version, and waits until it answers.

The command of an engine is a template. `{model}` is the folder of the version as a relative path: the working folder is
above it, so that an engine which names its model after the path calls every version by the same name.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.shared.base.failure import ExitCode, Failure, first_line
from components.shared.base.redact import redact
from pipelines.local.ports import free_port
from pipelines.serving.completions import NAME, complete
from pipelines.serving.tied import start

HOST = "127.0.0.1"
ENGINES = {
    "transformers": "{python} -m transformers.cli.transformers serve {model}"
    " --host {host} --port {port} --device {device}",
    "vllm": "vllm serve {folder} --served-model-name {model} --host {host} --port {port}",
}
_INSTALL = {
    "transformers": "install the extra serve, in a clone by `pip install -e '.[serve]'`",
    "vllm": "install it by `pip install vllm`, or choose --engine transformers",
}
_FIELDS = {"python", "model", "folder", "host", "port", "device"}
_SMALL = 120 << 20  # bytes of weights; threads of such a model wait for each other most of the time
_POLL = 0.2  # seconds
_STOP = 10.0  # seconds that an engine has to end by itself


@dataclass(frozen=True)
class EngineCommand:
    """The command that starts an engine.

    Attributes:
        template: its words, with the fields {python}, {model}, {folder}, {host}, {port} and {device}.
        device: the value of {device}.
        remedy: how to install the program.
    """

    template: str
    device: str = "auto"
    remedy: str = "install it, or choose another --engine"

    @classmethod
    def of(cls, engine: str, device: str) -> EngineCommand:
        """The command of a named engine, or the template itself.

        Raises:
            Failure: the engine is not installed, or the template cannot be used.
        """
        command = cls(ENGINES.get(engine, engine), device, _INSTALL.get(engine, cls.remedy))
        if engine not in ENGINES and "{port}" not in engine:
            names = " or ".join(ENGINES)
            raise _usage(f"{engine!r} is no engine", f"name {names}, or write a command with {{model}} and {{port}}")
        program = command.words(Path("folder"), 1)[0]
        installed = engine != "transformers" or all(
            map(importlib.util.find_spec, ("transformers", "fastapi", "uvicorn"))
        )
        if not installed or shutil.which(program) is None:
            raise _usage(f"The engine {engine.split()[0]} is not installed", command.remedy)
        return command

    def words(self, folder: Path, port: int) -> list[str]:
        """The command for the folder of a version and a port.

        Raises:
            Failure: the template has an unknown field.
        """
        values = {"python": sys.executable, "model": NAME, "folder": str(folder), "host": HOST}
        values |= {"port": str(port), "device": self.device}
        try:
            words = shlex.split(self.template)
            unknown = {name for word in words for _, name, _, _ in string.Formatter().parse(word) if name is not None}
            if unknown - _FIELDS:
                raise ValueError(f"there is no field {{{sorted(unknown - _FIELDS)[0]}}}")
            return [word.format(**values) for word in words]
        except ValueError as error:
            fields = ", ".join(f"{{{name}}}" for name in sorted(_FIELDS))
            raise _usage(f"The command of the engine cannot be read: {error}", f"use the fields {fields}") from error


@dataclass
class Engine:
    """A running engine.

    Attributes:
        version: the number of the version that it serves.
        folder: the folder of that version, whose name is the name of the model.
        command: the command that started it.
        port: its port on 127.0.0.1.
        process: the leader of its process group.
        log: its output.
    """

    version: str
    folder: Path
    command: EngineCommand
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, version: str, folder: Path, command: EngineCommand, log: Path) -> Engine:
        """Starts an engine, which does not answer yet."""
        port = free_port()
        process = start(command.words(folder, port), folder.parent, log, _variables(folder))
        return cls(version, folder, command, port, process, log)

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_until_ready(self, limit: float, between: Callable[[], object] = lambda: None) -> None:
        """Waits until it answers a completion.

        Args:
            limit: the longest wait in seconds.
            between: called between two attempts. An exception that it raises ends the wait.

        Raises:
            Failure: it ended, or does not answer in time.
        """
        until = time.monotonic() + limit
        while True:
            between()
            if not self.alive:
                raise self._failure(f"The server of version {self.version} ended by itself: {self.last_line()}")
            try:
                complete(self.endpoint, "The", 1, timeout=max(until - time.monotonic(), _POLL))
                return
            except Failure as failure:
                if time.monotonic() > until:
                    problem = f"The server of version {self.version} did not answer within {limit:g} s: {failure.what}"
                    raise self._failure(problem) from None
            time.sleep(_POLL)

    def stop(self) -> None:
        """Stops it, and kills it if it does not end."""
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(_STOP)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            self.process.wait()

    def last_line(self) -> str:
        """The last line of its log, which names the error of a Python program."""
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return redact(first_line(lines[-1] if lines else ""))[:300]
        return "no message"

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _failure(self, what: str) -> Failure:
        return Failure(what, where=str(self.log), remedy="read the log, or serve another version")


def _variables(folder: Path) -> dict[str, str]:
    """Variables of an engine: it asks no Hub, and computes a token of a small model in one thread."""
    variables = {"HF_HUB_OFFLINE": "1"}
    weights = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if weights < _SMALL and "OMP_NUM_THREADS" not in os.environ:
        variables["OMP_NUM_THREADS"] = "1"
    return variables


def _usage(what: str, remedy: str) -> Failure:
    return Failure(what, where="--engine", remedy=remedy, exit_code=ExitCode.USAGE)
