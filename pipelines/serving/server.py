"""Serves one version on this machine: an engine behind a proxy, supervised, and replaced without a failed request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from components.shared.base.failure import Failure
from pipelines.local.ports import http_address
from pipelines.serving.engine import Engine, EngineCommand
from pipelines.serving.proxy import Proxy, ProxyFailure
from pipelines.serving.restarts import EndedTooOften, Restarts
from pipelines.serving.serve_settings import ServeSettings
from pipelines.serving.smoke import Expected, SmokeResult, smoke_test

Report = Callable[[str], object]
_LARGEST_LOG = 64 << 20  # bytes
_POLL = 0.1  # seconds


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
        self._restarts = Restarts(report)

    @property
    def version(self) -> str | None:
        """The number of the version that gets the traffic."""
        return self.current.engine.version if self.current else None

    @property
    def address(self) -> str:
        return http_address(self.settings.host, self.settings.port)

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
            Failure: it does not get ready, fails the smoke test, or ends while the old one is drained. The current
                version goes on serving.
            EndedTooOften, ProxyFailure: what is serving has failed, and not this version.
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

        A restart that fails is reported, and a later call tries it again. It also marks the folder of the version as
        used, which `wikigpt gc` respects.

        Raises:
            EndedTooOften: it does not help.
        """
        if not self._restarts.paused:
            try:
                self._restart_what_ended()
            except EndedTooOften:
                raise
            except (Failure, OSError) as error:
                self._restarts.failed(error)
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
        """Stops an engine that has no open request, at the latest after the limit, whatever HAProxy says.

        Raises:
            Failure: the engine that got the traffic has ended meanwhile; the old one has the traffic again.
        """
        try:
            waiting = self._drain(old)
            if self._can_return_to(old):
                self._return_to(old)
            elif waiting:
                self.report(f"Version {old.engine.version} is stopped with {waiting} open requests after the limit.")
        finally:
            if self.current is None or self.current.engine is not old.engine:
                with suppress(ProxyFailure):  # a proxy that was started again does not know it
                    self.proxy.remove(old.name)
                old.engine.stop()

    def _drain(self, old: Behind) -> int:
        """Waits for the answers to the open requests of an engine; returns how many are still open."""
        until = time.monotonic() + self.settings.drain
        try:
            self.proxy.drain(old.name)
            while (waiting := self.proxy.open_requests(old.name)) and time.monotonic() < until:
                if self._can_return_to(old):
                    break
                self.supervise()
                time.sleep(_POLL)
        except ProxyFailure:  # it has ended, and so have the requests
            self.supervise()
            return 0
        return waiting

    def _can_return_to(self, old: Behind) -> bool:
        return self.current is not None and not self.current.engine.alive and old.engine.alive

    def _return_to(self, old: Behind) -> None:
        """Gives the traffic back to an engine, because the one that got it has ended."""
        assert self.current is not None
        new, self.current = self.current, old
        try:
            self.proxy.resume(old.name)
        except ProxyFailure:  # it was started again
            self.current = self._add(old.engine)
        finally:
            with suppress(ProxyFailure):
                self.proxy.remove(new.name)
            new.engine.stop()  # what is left of its process group
        raise Failure(
            f"Its server ended by itself as soon as it had the traffic: {new.engine.last_line()}",
            where=str(new.engine.log),
            remedy="read the log, or serve another version",
        )

    def _restart_what_ended(self) -> None:
        if not self.proxy.alive:
            self._restarts.count("The proxy", self.proxy.log)
            self.proxy.stop(0)
            self._replace_proxy()
        if self.current is not None and not self.current.engine.alive:
            self._replace_dead(self.current)

    def _replace_proxy(self) -> None:
        self.proxy = self._start_proxy()
        try:
            if self.current is not None:
                self.current = self._add(self.current.engine)
        except BaseException:
            self.proxy.stop(0)  # without the engine it would go on and answer every request with 503
            raise

    def _replace_dead(self, dead: Behind) -> None:
        engine = dead.engine
        self._restarts.count(f"The server of version {engine.version}", engine.log, engine.last_line())
        with suppress(ProxyFailure):  # an earlier attempt has removed it
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
