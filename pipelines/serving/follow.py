"""Follows an alias: when it moves, the new version is rolled out; a version that fails is taken back."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure
from components.shared.tracking import registry
from pipelines.serving.folder import served_folder
from pipelines.serving.proxy import ProxyFailure
from pipelines.serving.rejection import is_rejected
from pipelines.serving.restarts import EndedTooOften
from pipelines.serving.server import Server
from pipelines.serving.smoke import Expected, SmokeResult
from pipelines.serving.wanted import refuse_incomplete

if TYPE_CHECKING:
    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

# A client of the registry, or the database. Errors of MLflow become failures when the block ends.
OpenRegistry = Callable[[], "AbstractContextManager[RegistryReader]"]
Report = Callable[[str], object]
_AGAIN = 60.0  # seconds after a failure that is not the version's


class Superseded(Failure):
    """The alias no longer names the version that is being rolled out, which says nothing against the version."""


class RejectedBefore(Failure):
    """The rollout of the version failed before."""


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
    failed, until, said = "", 0.0, ""
    while True:
        time.sleep(every)
        server.supervise()
        try:
            with alias.registry() as client:
                wanted = alias.wanted(client)
            number = str(wanted.version)
            if number != server.version:
                refuse_incomplete(wanted)
        except Failure as failure:
            if str(failure) != said:
                alias.report(f"Version {server.version} goes on serving: {failure}")
            said = str(failure)
            continue
        said = ""
        if number == server.version:
            failed = ""
        elif number != failed or time.monotonic() > until:
            failed, until = number, time.monotonic() + _moved(server, alias, number)


def _moved(server: Server, alias: Followed, number: str) -> float:
    """Rolls a version out.

    Returns:
        The seconds until it may be tried again. They are infinite if it failed, and then the alias has to move first.
    """
    serving = str(server.version)
    alias.report(f"The alias moved from version {serving} to version {number}, which is started beside it.")
    try:
        with alias.registry() as client:
            version = _still(alias, client, number)
            _roll_out(server, client, version, alias.versions, alias.report, lambda: _still(alias, client, number))
    except EndedTooOften:
        raise
    except (Failure, OSError) as error:
        alias.report(f"Version {number} is not served, and version {serving} goes on serving: {error}")
        if isinstance(error, Superseded):
            return 0.0
        if isinstance(error, RejectedBefore):
            return math.inf
        if isinstance(error, OSError) or not _blames_the_version(error):
            return _AGAIN
        alias.take_back(number, serving, error.what)
        return math.inf
    alias.served(version)
    return 0.0


def _blames_the_version(failure: Failure) -> bool:
    """Whether the version caused a failure, as opposed to HAProxy, a full disk or a registry that cannot be reached."""
    others = isinstance(failure, ProxyFailure) or isinstance(failure.__cause__, OSError)
    return failure.exit_code is ExitCode.FAILED and not others


def refuse_rejected(version: AnyVersion) -> None:
    """Refuses a version that failed its rollout, if no person has promoted it again.

    Raises:
        RejectedBefore: it did.
    """
    if is_rejected(version):
        raise RejectedBefore(
            f"Version {version.version} failed its rollout: {version.tags[registry.ROLLOUT_FAILED]}",
            where=version.name,
            remedy="promote it again, or promote another version",
        )


def _still(alias: Followed, client: RegistryReader, number: str) -> AnyVersion:
    """The version of this number, if the alias still names it."""
    try:
        version = alias.wanted(client)
        refuse_incomplete(version)
    except Failure as failure:
        raise Superseded(failure.what, where=failure.where, remedy=failure.remedy) from failure
    if str(version.version) != number:
        what = f"The alias moved on to version {version.version}"
        raise Superseded(what, where=version.name, remedy="that version is served next")
    refuse_rejected(version)
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
