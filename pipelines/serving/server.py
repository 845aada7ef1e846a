"""Serves one version on this machine: an engine behind a proxy, supervised, and replaced without a failed request."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from components.shared.base.failure import Failure
from components.shared.base.ranges import Range, check_ranges
from pipelines.serving.engine import Engine, EngineCommand
from pipelines.serving.proxy import Proxy
from pipelines.serving.smoke import Expected, Limits, SmokeResult, smoke_test

Report = Callable[[str], object]
_RESTARTS, _WITHIN = 3, 600.0  # restarts of a program that ended by itself, and the seconds in which they are counted
_LARGEST_LOG = 64 << 20  # bytes
_POLL = 0.1  # seconds


class EndedTooOften(Failure):
    """The proxy or the engine ends again and again, so that nothing is served."""


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How a version is served on this machine.

    Attributes:
        host: the IP address of the users' port.
        port: the users' port.
        ready: the seconds that a new server has until it answers.
        drain: the seconds that open requests have, before the server that works on them is stopped.
        limits: what a new server must keep.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Range(1, 65_535)] = 8000
    ready: Annotated[float, Range(1, 86_400)] = 300.0
    drain: Annotated[float, Range(0, 86_400)] = 60.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class Behind:
    """An engine behind the proxy, with the name by which the proxy knows it."""

    name: str
    engine: Engine


class Server:
    """The proxy and the engine that gets its traffic.

    Args:
        model: the name of the registered model.
        command: the command of the engines.
        folder: the folder of logs and of the configuration of the proxy.
        settings: how it serves.
        report: called with a sentence for each change.
    """

    def __init__(self, model: str, command: EngineCommand, folder: Path, settings: ServeSettings, report: Report):
        self.model, self.command, self.folder, self.settings, self.report = model, command, folder, settings, report
        folder.mkdir(parents=True, exist_ok=True)
        self.proxy = self._start_proxy()
        self.current: Behind | None = None
        self._starts = 0
        self._restarts: deque[float] = deque(maxlen=_RESTARTS)

    @property
    def version(self) -> str | None:
        """The number of the version that gets the traffic."""
        return self.current.engine.version if self.current else None

    @property
    def address(self) -> str:
        host = f"[{self.settings.host}]" if ":" in self.settings.host else self.settings.host
        return f"http://{host}:{self.settings.port}"

    def roll_out(
        self, version: str, folder: Path, expected: Expected, confirm: Callable[[], object] = lambda: None
    ) -> SmokeResult:
        """Starts a version beside the current one, tests it, moves the traffic to it, and drains and stops the old one.

        Args:
            version: its number.
            folder: its folder, see `served_folder`.
            expected: its recorded completions.
            confirm: called before the traffic is moved. An exception that it raises keeps the old version.

        Raises:
            Failure: it does not get ready, or fails the smoke test. The current version goes on serving.
        """
        engine = self._start_engine(version, folder)
        try:
            engine.wait_until_ready(self.settings.ready, self.supervise)
            before = self.current.engine.endpoint if self.current else None
            result = smoke_test(engine.endpoint, expected, self.settings.limits, before=before, between=self.supervise)
            if result.problem is not None:
                where = f"models:/{self.model}/{version}"
                remedy = "read the log of its server, or serve another version"
                raise Failure(f"The smoke test failed: {result.problem}", where=where, remedy=remedy)
            confirm()
            added = self._add(engine)
        except BaseException:
            engine.stop()
            raise
        previous, self.current = self.current, added
        if previous is not None:
            self._retire(previous)
        return result

    def supervise(self) -> None:
        """Starts the proxy and the engine again if they ended by themselves, and keeps their logs small.

        It also marks the folder of the version as used, which `wikigpt gc` respects.

        Raises:
            EndedTooOften: it does not help.
        """
        if not self.proxy.alive:
            self._count_restart("The proxy", self.proxy.log)
            self.proxy.stop(0)
            self.proxy = self._start_proxy()
            if self.current is not None:
                self.current = self._add(self.current.engine)
        if self.current is not None and not self.current.engine.alive:
            self._replace_dead(self.current)
        if self.current is not None:
            with suppress(OSError):
                os.utime(self.current.engine.folder.parent)
        for log in self.folder.glob("*.log"):
            with suppress(OSError):
                if log.stat().st_size > _LARGEST_LOG:
                    os.truncate(log, 0)

    def close(self) -> None:
        """Takes no more requests, waits for the open ones, and stops everything."""
        try:
            self.proxy.stop(self.settings.drain)
        finally:
            if self.current is not None:
                self.current.engine.stop()

    def _start_proxy(self) -> Proxy:
        return Proxy.start(self.settings.host, self.settings.port, self.model, self.folder)

    def _start_engine(self, version: str, folder: Path) -> Engine:
        return Engine.start(version, folder, self.command, self.folder / f"version-{version}.log")

    def _add(self, engine: Engine) -> Behind:
        self._starts += 1
        name = f"{engine.version}-{self._starts}"
        self.proxy.add(name, engine.port)
        return Behind(name, engine)

    def _retire(self, old: Behind) -> None:
        self.proxy.drain(old.name)
        until = time.monotonic() + self.settings.drain
        while (waiting := self.proxy.open_requests(old.name)) and time.monotonic() < until:
            self.supervise()
            time.sleep(_POLL)
        if waiting:
            self.report(f"Version {old.engine.version} is stopped with {waiting} open requests after the limit.")
        self.proxy.remove(old.name)
        old.engine.stop()

    def _replace_dead(self, dead: Behind) -> None:
        engine = dead.engine
        self._count_restart(f"The server of version {engine.version}", engine.log, engine.last_line())
        self.proxy.remove(dead.name)
        engine.stop()  # what is left of its process group
        again = self._start_engine(engine.version, engine.folder)
        try:
            again.wait_until_ready(self.settings.ready)
            self.current = self._add(again)
        except BaseException:
            again.stop()
            raise
        self.report(f"The server of version {engine.version} answers again.")

    def _count_restart(self, what: str, log: Path, message: str = "") -> None:
        now = time.monotonic()
        if len(self._restarts) == _RESTARTS and now - self._restarts[0] < _WITHIN:
            raise EndedTooOften(
                f"{what} ended by itself, after {_RESTARTS} restarts within {_WITHIN / 60:.0f} minutes",
                where=str(log),
                remedy="read the log, then start the command again",
            )
        self._restarts.append(now)
        self.report(f"{what} ended by itself and is started again{f': {message}' if message else '.'}")
