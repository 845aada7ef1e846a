"""Follows an alias: when it moves, the new version is rolled out; a version that fails is taken back."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import Failure
from components.shared.tracking import registry
from pipelines.serving.folder import served_folder
from pipelines.serving.rejection import is_rejected
from pipelines.serving.server import EndedTooOften, Server
from pipelines.serving.smoke import Expected, SmokeResult

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

# A client of the registry, or the database. Errors of MLflow become failures when the block ends.
OpenRegistry = Callable[[], "AbstractContextManager[RegistryReader]"]
Report = Callable[[str], object]


class Superseded(Failure):
    """The version is not to be served at this moment, which is no reason to take it back."""


@dataclass(frozen=True)
class Followed:
    """An alias, and what is done when it moves.

    Attributes:
        registry: opens the registry.
        wanted: the version that the alias names, or a Failure.
        served: called with a version that gets the traffic now.
        take_back: called with the number of a version that failed, the number of the one that serves, and the reason.
        versions: the folder of exported versions.
        report: called with a sentence for each change.
    """

    registry: OpenRegistry
    wanted: Callable[[RegistryReader], AnyVersion]
    served: Callable[[AnyVersion], object]
    take_back: Callable[[str, str, str], object]
    versions: Path
    report: Report


def serve_version(server: Server, client: RegistryReader, version: AnyVersion, versions: Path, report: Report) -> None:
    """Exports a version and rolls it out.

    Args:
        server: the server.
        client: a client of the registry, or the database.
        version: the version.
        versions: the folder of exported versions.
        report: called with a sentence.

    Raises:
        Failure: it cannot be served.
    """
    _roll_out(server, client, version, versions, report, lambda: None)


def follow(server: Server, alias: Followed, every: float) -> None:
    """Serves the version that the alias names, until the process is stopped.

    Args:
        server: the server, which serves a version already.
        alias: the alias.
        every: the seconds between two looks at the registry.

    Raises:
        EndedTooOften: nothing can be served.
    """
    failed, said = "", ""
    while True:
        time.sleep(every)
        server.supervise()
        try:
            with alias.registry() as client:
                number = str(alias.wanted(client).version)
        except Failure as failure:
            if str(failure) != said:
                alias.report(f"Version {server.version} goes on serving: {failure}")
            said = str(failure)
            continue
        said = ""
        if number == server.version:
            failed = ""
        elif number != failed:
            failed = "" if _moved(server, alias, number) else number


def _moved(server: Server, alias: Followed, number: str) -> bool:
    """Rolls a version out. False if it failed, and must not be tried again before the alias was elsewhere."""
    serving = str(server.version)
    alias.report(f"The alias moved from version {serving} to version {number}, which is started beside it.")
    try:
        with alias.registry() as client:
            version = _still(alias, client, number)
            _roll_out(server, client, version, alias.versions, alias.report, lambda: _still(alias, client, number))
    except EndedTooOften:
        raise
    except Superseded as failure:
        alias.report(f"Version {serving} goes on serving: {failure}")
    except Failure as failure:
        alias.report(f"Version {number} is not served, and version {serving} goes on serving: {failure}")
        # A full disk says nothing against the version.
        if not isinstance(failure.__cause__, OSError):
            alias.take_back(number, serving, failure.what)
        return False
    else:
        alias.served(version)
    return True


def _still(alias: Followed, client: RegistryReader, number: str) -> AnyVersion:
    """The version of this number, if the alias still names it."""
    try:
        version = alias.wanted(client)
    except Failure as failure:
        raise Superseded(failure.what, where=failure.where, remedy=failure.remedy) from failure
    if str(version.version) != number:
        what = f"The alias moved on to version {version.version}"
        raise Superseded(what, where=version.name, remedy="that version is served next")
    if is_rejected(version):
        what = f"Version {number} failed its rollout: {version.tags[registry.ROLLOUT_FAILED]}"
        raise Superseded(what, where=version.name, remedy="promote it again, or promote another version")
    return version


def _roll_out(
    server: Server,
    client: RegistryReader,
    version: AnyVersion,
    versions: Path,
    report: Report,
    confirm: Callable[[], object],
) -> None:
    started = time.monotonic()
    folder = served_folder(client, version, versions)
    result = server.roll_out(str(version.version), folder, Expected.of(client, version), confirm)
    seconds = time.monotonic() - started
    report(
        f"{server.address} is served by version {version.version} of {version.name} after {seconds:.1f} s:"
        f" {_compared(result)}, p99 latency {result.p99 or 0:.3f} s."
    )


def _compared(result: SmokeResult) -> str:
    if result.difference is not None:
        return f"{result.difference:+.3f} nats per token to what was recorded"
    if result.compared:
        return f"{result.agreed} of {result.compared} recorded completions agree"
    return "no completions were recorded with it"
