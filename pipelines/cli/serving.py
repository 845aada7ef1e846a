"""`wikigpt serve`."""

from __future__ import annotations

import ipaddress
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range
from pipelines.cli import options
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder, Store
from pipelines.cli.registry import Model, reader_of, registry_of, store_with_locks
from pipelines.cli.screen import print_to_stderr, reported

if TYPE_CHECKING:
    from types import FrameType

    from components.shared.tracking.sqlite_registry import AnyVersion
    from pipelines.serving.follow import Followed

_PORT = Range(1, 65_535)
_SECONDS = Range(1, 86_400)
_LATENCY = Range(0.001, 3600)
_EVERY = 1.0  # seconds between two looks at the registry


def serve(
    reference: Annotated[
        str, typer.Argument(metavar="VERSION", help="A number, an alias, or a `models:/` address.")
    ] = "champion",
    follow: Annotated[
        bool, typer.Option("--follow", help="When the alias champion moves, move the traffic to the new version.")
    ] = False,
    port: Annotated[int, typer.Option(callback=within(_PORT), help="The port for clients.")] = 8000,
    host: Annotated[
        str, typer.Option(help="The IP address for clients; 0.0.0.0 serves other machines too.")
    ] = "127.0.0.1",
    engine: Annotated[
        str, typer.Option(help="`transformers`, `vllm`, or a command with the fields {model} and {port}.")
    ] = "transformers",
    device: Annotated[str, typer.Option(help="The device of `transformers serve`: auto, cpu, or cuda:0.")] = "auto",
    ready_timeout: Annotated[
        float, typer.Option(callback=within(_SECONDS), help="Seconds that a new server has until it answers.")
    ] = 300.0,
    drain_timeout: Annotated[
        float, typer.Option(callback=within(_SECONDS), help="Seconds that open requests have before a server stops.")
    ] = 60.0,
    max_p99: Annotated[
        float | None,
        typer.Option(
            callback=within(_LATENCY),
            help="The highest p99 latency of a new server in seconds. By default 1.1 times that of the old one.",
        ),
    ] = None,
    model: Model = None,
    home: HomeFolder = options.DEFAULT_HOME,
    store: Store = None,
) -> None:
    """Serve a version by an OpenAI-compatible engine until Ctrl-C. With --follow, the traffic follows promotions."""
    from components.shared.tracking import registry
    from pipelines.local.home import open_home
    from pipelines.local.ports import require_free
    from pipelines.registry.approval import resolve_served
    from pipelines.registry.references import reference_of
    from pipelines.serving.engine import EngineCommand
    from pipelines.serving.follow import follow as follow_alias
    from pipelines.serving.follow import refuse_rejected, serve_version
    from pipelines.serving.proxy import require_proxy
    from pipelines.serving.serve_settings import ServeSettings
    from pipelines.serving.server import Server
    from pipelines.serving.smoke import Limits
    from pipelines.serving.wanted import refuse_incomplete

    address = _ip_address(host)
    command = EngineCommand.of(engine, device)
    require_proxy()
    require_free(port, "HAProxy", address)
    limits = Limits(p99_seconds=max_p99)
    settings = ServeSettings(host=address, port=port, ready=ready_timeout, drain=drain_timeout, limits=limits)
    note = _once(print_to_stderr)
    with reader_of(home) as client:
        if follow and reference_of(client, reference, model)[1] != registry.CHAMPION:
            raise _usage(f"{reference} is not the alias champion", "--follow", "follow that, or leave out --follow")
        version = resolve_served(client, reference, model, note=note)  # once: everything below names its number
    if follow:
        refuse_incomplete(version)
        refuse_rejected(version)
    opened = open_home(home)
    versions = opened.served_versions
    with _terminated_as_interrupted() as stopped:
        server = Server(version.name, command, opened.serving / str(port), settings, print_to_stderr)
        try:
            with reader_of(home) as client:
                serve_version(server, client, version, versions, print_to_stderr)
            if follow:
                follow_alias(server, _champion(version.name, home, store, versions, note), _EVERY)
            while True:
                time.sleep(_EVERY)
                server.supervise()
        except KeyboardInterrupt:
            print_to_stderr(f"Stopping when the open requests are answered, at the latest in {drain_timeout:g} s.")
            if not stopped:
                raise
        finally:
            server.close()


def _champion(model: str, home: Path, store: str | None, versions: Path, note: Callable[[str], object]) -> Followed:
    """The alias champion in the registry of the home, or of the environment."""
    from components.shared.tracking import registry
    from pipelines.registry.approval import resolve_served
    from pipelines.registry.clicks import record_click
    from pipelines.serving.follow import Followed
    from pipelines.serving.rejection import forget_rejection, reject, send_notice

    locks = store_with_locks(home, store)

    def record_refused(number: str) -> None:
        with reported("The click that is refused is not on record"), registry_of(home) as client:
            record_click(client, model, locks, "serve")

    # Who may move the alias is asked for a click that is not on record only, and the alias is read every second.
    on_refusal = _once(record_refused)

    def served(version: AnyVersion) -> None:
        with reported(f"The move to version {version.version} is not on record"), registry_of(home) as client:
            record_click(client, model, locks, "serve")
            if registry.ROLLOUT_FAILED in version.tags:
                forget_rejection(client, model, str(version.version))

    def take_back(number: str, back_to: str, reason: str) -> None:
        with reported(f"Version {number} could not be taken back in the registry"), registry_of(home) as client:
            reject(client, model, number, back_to, reason, locks, send_notice)

    return Followed(
        registry=lambda: reader_of(home),
        wanted=lambda client: resolve_served(client, registry.CHAMPION, model, note=note, on_refusal=on_refusal),
        served=served,
        take_back=take_back,
        versions=versions,
        report=print_to_stderr,
    )


def _once(report: Callable[[str], object]) -> Callable[[str], None]:
    """Calls a function with a text again only after another one."""
    last: str | None = None

    def say(sentence: str) -> None:
        nonlocal last
        if sentence != last:
            report(sentence)
        last = sentence

    return say


def _ip_address(host: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise _usage(f"{host!r} is no IP address", "--host", "name one of this machine, such as 127.0.0.1") from None


@contextmanager
def _terminated_as_interrupted() -> Iterator[list[int]]:
    """SIGTERM stops the command as Ctrl-C does. Yields a list, which is not empty if it came.

    A shell starts commands in the background so that they ignore SIGINT; this one does not.
    """
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> Any:
        stopped.append(number)
        raise KeyboardInterrupt

    handlers = {signal.SIGTERM: stop, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _usage(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
