"""S3 servers for tests: an emulator in a separate process, and a proxy that injects faults in front of any server."""

import http.client
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

from tests.http_servers import free_port, serving

# What the proxy does with a request: nothing special, or one of these. LOST hands the request on and hangs up before
# the answer comes back; what the second line names never reaches the server.
PASS, CUT_ANSWER, LOST, GARBLE = "pass", "cut answer", "lost answer", "garble"
CUT_REQUEST, BUSY, CONFLICT, NO_SUCH_UPLOAD = "cut request", "busy", "conflict", "no such upload"
_REFUSALS = {
    BUSY: (503, "SlowDown"),
    CONFLICT: (409, "ConditionalRequestConflict"),
    NO_SUCH_UPLOAD: (404, "NoSuchUpload"),
}


@dataclass(frozen=True)
class Request:
    """A request, for a plan; `number` counts from 0."""

    method: str
    path: str
    range: str
    number: int
    conditional: bool


Plan = Callable[[Request], str]


def environment(endpoint: str, region: str, key: str, secret: str) -> dict[str, str]:
    """The variables by which boto3 finds this server, and no other credentials."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_REGION": region,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def make_bucket(name: str, env: dict[str, str], *, versioned: bool = False) -> None:
    """Creates a bucket, by boto3 without the environment of this process."""
    import boto3

    session = boto3.Session(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"])
    client = session.client("s3", endpoint_url=env["AWS_ENDPOINT_URL_S3"])
    client.create_bucket(Bucket=name)
    if versioned:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


@contextmanager
def emulator(folder: Path) -> Iterator[str]:
    """Starts an emulator on a free port of the loopback, and yields its endpoint."""
    port = free_port()
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "SERVICES": "s3",
        "IOT_MTLS_ENABLED": "0",
        "TMPDIR": str(folder),
        "PYTHONPATH": "",
    }
    with open(folder / "emulator.log", "wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "ministack"], env=environment, cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(endpoint, server, folder / "emulator.log")
        yield endpoint
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def proxy(endpoint: str, plan: Plan) -> Iterator[str]:
    """Starts a server that forwards requests to an endpoint and injects the faults of a plan."""

    class Handler(_Faulty):
        upstream, decide, numbers = urlsplit(endpoint).netloc, staticmethod(plan), itertools.count()

    with serving(Handler) as address:
        yield address


class _Faulty(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: str
    decide: Plan
    numbers: Iterator[int]

    def _handle(self) -> None:
        conditional = "If-None-Match" in self.headers
        request = Request(self.command, self.path, self.headers.get("Range", ""), next(self.numbers), conditional)
        fault = self.decide(request)
        length = int(self.headers.get("Content-Length") or 0)
        if fault == CUT_REQUEST:
            self.rfile.read(length // 2)
            self._hang_up()
            return
        body = self.rfile.read(length)
        if fault in _REFUSALS:
            status, code = _REFUSALS[fault]
            self._reply(status, [("Content-Type", "application/xml")], f"<Error><Code>{code}</Code></Error>".encode())
            return
        if fault == GARBLE:
            body = bytes([body[0] ^ 1]) + body[1:]
        status, headers, answer = self._ask(body)
        if fault == LOST:
            self._hang_up()
            return
        self._reply(status, headers, answer, cut=fault == CUT_ANSWER)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 -- the names that http.server looks for

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            hop = ("connection", "transfer-encoding", "keep-alive")
            headers = [pair for pair in answer.getheaders() if pair[0].lower() not in hop]
            return answer.status, headers, answer.read()
        finally:
            connection.close()

    def _reply(self, status: int, headers: list[tuple[str, str]], answer: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer[: len(answer) // 2] if cut else answer)
        if cut:
            self.wfile.flush()
            self._hang_up()

    def _hang_up(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def _wait_for(endpoint: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urlopen(endpoint, timeout=5).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"the S3 emulator did not start: {log.read_text()[-2000:]}")
