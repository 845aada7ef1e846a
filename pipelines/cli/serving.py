"""`wikigpt serve`."""

from __future__ import annotations

import ipaddress
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from components.shared.base.failure import ExitCode, Failure
from components.shared.base.ranges import Range
from pipelines.cli import options
from pipelines.cli.limits import within
from pipelines.cli.options import HomeFolder
from pipelines.cli.registry import Model, reader_of
from pipelines.cli.screen import print_to_stderr

if TYPE_CHECKING:
    from types import FrameType

    from components.shared.tracking.sqlite_registry import AnyVersion, RegistryReader

_PORT = Range(1, 65_535)
_SECONDS = Range(1, 86_400)
_LATENCY = Range(0.001, 3600)
_EVERY = 1.0  # seconds between two looks at the registry


def serve(
    reference: Annotated[
        str, typer.Argument(metavar="VERSION", help="A number, an alias, or a `models:/` address.")
    ] = "champion",
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
) -> None:
    """Serve a version by an OpenAI-compatible engine until Ctrl-C."""
    from pipelines.local.home import open_home
    from pipelines.local.ports import require_free
    from pipelines.serving.engine import EngineCommand
    from pipelines.serving.follow import serve_version
    from pipelines.serving.proxy import require_proxy
    from pipelines.serving.server import Server, ServeSettings
    from pipelines.serving.smoke import Limits

    address = _ip_address(host)
    command = EngineCommand.of(engine, device)
    require_proxy()
    require_free(port, "HAProxy", address)
    limits = Limits(p99_seconds=max_p99)
    settings = ServeSettings(host=address, port=port, ready=ready_timeout, drain=drain_timeout, limits=limits)
    with reader_of(home) as client:
        version = _wanted(client, reference, model)  # once: everything below names its number
    folder = open_home(home).serving
    versions = folder / "versions"
    with _terminated_as_interrupted() as stopped:
        server = Server(version.name, command, folder / str(port), settings, print_to_stderr)
        try:
            with reader_of(home) as client:
                serve_version(server, client, version, versions, print_to_stderr)
            while True:
                time.sleep(_EVERY)
                server.supervise()
        except KeyboardInterrupt:
            print_to_stderr(f"Stopping when the open requests are answered, at the latest in {drain_timeout:g} s.")
            if not stopped:
                raise
        finally:
            server.close()


def _wanted(client: RegistryReader, reference: str, model: str | None) -> AnyVersion:
    from pipelines.registry.references import resolve

    return resolve(client, reference, model)


def _ip_address(host: str) -> str:
    try:
        return str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
    except ValueError:
        raise _usage(f"{host!r} is no IP address", "--host", "name one of this machine, such as 127.0.0.1") from None


@contextmanager
def _terminated_as_interrupted() -> Iterator[list[int]]:
    """SIGTERM stops the command as Ctrl-C does. Yields a list, which is not empty if it came."""
    stopped: list[int] = []

    def stop(number: int, frame: FrameType | None) -> Any:
        stopped.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, before)


def _usage(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.USAGE)
