"""HAProxy before the engines: it owns the port of the users, and moves their traffic from one engine to another.

The servers behind it are added, drained and removed by its runtime API, on a socket that only this user can open. It is
never reloaded, so that no connection is lost. Each answer says which server gave it, in the header x-wikigpt-version.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.files import write_atomically
from pipelines.serving.tied import start

HEADER = "x-wikigpt-version"
_BACKEND = "engines"
_SOCKET = "haproxy.sock"  # a relative path, because that of a socket must be short and that of a home may be long
_START = 10.0  # seconds
_POLL = 0.05  # seconds
# A server answers each request on a connection of its own, because an engine may close an idle one at any moment. Other
# paths are not of the API: by some, `transformers serve` loads and unloads models.
_CONFIGURATION = """\
global
    noreuseport
    nbthread 1
    stats socket unix@{socket} mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout queue 10s
    timeout http-keep-alive 30s
    option http-server-close
    http-reuse never
    option redispatch 1
    retries 3
    retry-on conn-failure
frontend users
    bind {address}
    http-request deny deny_status 404 unless {{ path_beg /v1/ }} || {{ path /health }}
    default_backend engines
backend engines
    balance roundrobin
    http-response set-header {header} "{model}/%[srv_name,field(1,-)]"
"""


class ProxyFailure(Failure):
    """HAProxy does not start, or does not do what it is told, which says nothing against a version."""


def require_proxy() -> str:
    """The path of HAProxy.

    Raises:
        Failure: it is not installed.
    """
    program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")  # a user's PATH lacks /usr/sbin on Debian
    if program is None:
        raise Failure(
            "The proxy HAProxy is not installed",
            where="PATH",
            remedy="install Debian's package haproxy by `apt-get install haproxy`",
            exit_code=ExitCode.USAGE,
        )
    return program


@dataclass
class Proxy:
    """A running HAProxy. Methods that tell it something raise a ProxyFailure if it does not answer, or refuses.

    Attributes:
        process: the process.
        log: its output.
        control: the socket of its runtime API.
    """

    process: subprocess.Popen[bytes]
    log: Path
    control: Path

    @classmethod
    def start(cls, host: str, port: int, model: str, folder: Path) -> Proxy:
        """Starts HAProxy with no server behind it.

        Args:
            host: the IP address to listen on.
            port: the port to listen on.
            model: the name of the registered model, for the header.
            folder: the folder of its configuration and log.

        Raises:
            Failure: it is not installed, or cannot listen.
        """
        program = require_proxy()
        configuration, log = folder / "haproxy.cfg", folder / "haproxy.log"
        values = {"socket": _SOCKET, "address": f"{host}:{port}", "header": HEADER}
        content = _CONFIGURATION.format(**values, model=quote(model).replace("%", "%%"))
        write_atomically(configuration, content)
        log.unlink(missing_ok=True)
        proxy = cls(start([program, "-db", "-f", str(configuration)], folder, log), log, folder / _SOCKET)
        try:
            proxy._wait_until_listening(host, port)
        except BaseException:
            proxy.stop(0)
            raise
        return proxy

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def add(self, server: str, port: int) -> None:
        """Adds a server on 127.0.0.1 and gives it traffic. Its name is the number of its version, `-` and a count."""
        self._expect(f"add server {_BACKEND}/{server} 127.0.0.1:{port}", "New server registered")
        self._expect(f"enable server {_BACKEND}/{server}", "")

    def drain(self, server: str) -> None:
        """Gives a server no new requests. It answers those that it has."""
        self._expect(f"set server {_BACKEND}/{server} state drain", "")

    def resume(self, server: str) -> None:
        """Gives a drained server new requests again."""
        self._expect(f"set server {_BACKEND}/{server} state ready", "")

    def open_requests(self, server: str) -> int:
        """The number of requests that a server has not answered yet."""
        rows = csv.DictReader(self.ask(f"show stat {_BACKEND} 4 -1").lstrip("# ").splitlines())
        return sum(int(row["scur"]) + int(row["qcur"] or 0) for row in rows if row["svname"] == server)

    def remove(self, server: str) -> None:
        """Removes a server."""
        self._expect(f"set server {_BACKEND}/{server} state maint", "")
        self.ask(
            f"del server {_BACKEND}/{server}"
        )  # refused while a connection ends, and harmless: no name is used twice

    def ask(self, command: str) -> str:
        """The answer of the runtime API to a command.

        Raises:
            Failure: HAProxy does not answer.
        """
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                _connect(connection, self.control)
                connection.sendall(f"{command}\n".encode())
                return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode().strip()
        except OSError as error:
            raise self._failure(f"HAProxy does not answer: {error}") from error

    def stop(self, patience: float) -> None:
        """Stops listening, and ends when all requests are answered, at the latest after `patience` seconds."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGUSR1)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.process.kill()
            self.process.wait()
            self.control.unlink(missing_ok=True)

    def _wait_until_listening(self, host: str, port: int) -> None:
        until = time.monotonic() + _START
        while time.monotonic() < until:
            if not self.alive:
                raise self._failure(f"HAProxy cannot serve {host}:{port}: {self._alert()}", ExitCode.USAGE)
            with suppress(Failure):
                self.ask("show version")
                return
            time.sleep(_POLL)
        raise self._failure(f"HAProxy did not start within {_START:g} s")

    def _alert(self) -> str:
        """The first alert of its log that names a cause, such as an address in use."""
        said = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in said.splitlines() if "[ALERT]" in line]
        return lines[0].rpartition(" : ")[2].strip() if lines else "no message"

    def _expect(self, command: str, beginning: str) -> None:
        said = self.ask(command)
        if not said.startswith(beginning) or (said and not beginning):
            raise self._failure(f"HAProxy refuses `{command}`: {said}")

    def _failure(self, what: str, exit_code: ExitCode = ExitCode.FAILED) -> ProxyFailure:
        remedy = "choose another --port, or read the log"
        return ProxyFailure(what, where=str(self.log), remedy=remedy, exit_code=exit_code)


def _connect(connection: socket.socket, path: Path) -> None:
    """Connects to a socket whose path may be longer than the 107 bytes that the kernel accepts."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        short = Path(f"/proc/self/fd/{folder}") / path.name  # on Linux only
        connection.connect(str(short if short.exists() else path))
    finally:
        os.close(folder)
