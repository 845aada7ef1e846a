"""The HTTP server of the stand-in: checks every request and answer by the published API, and injects faults."""

from __future__ import annotations

import email
import functools
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.http_servers import serving as serving_http
from tests.kfp_stand_in.api import PUBLISHED, Api
from tests.kfp_stand_in.kubernetes import log_through_pipelines
from tests.kfp_stand_in.recorded import recorded, recorded_log
from tests.kfp_stand_in.refusals import Refusal, as_recorded, refusal
from tests.kfp_stand_in.state import State

READING = ("Get", "List")
PAGE = b"<!doctype html><title>Log in</title><form></form>"


@dataclass
class Fault:
    """A fault.

    Attributes:
        kind: `error` answers with `status`; `slow` waits `seconds`; `drop` cuts the connection before anything was
            done, `lost` after it was done; `page` answers with a web page.
        operation: the operation that fails; every operation if it is empty.
        times: the number of failing operations.
    """

    kind: str
    operation: str = ""
    times: int = 1
    status: int = 500
    seconds: float = 0.0


@dataclass
class StandIn:
    """A running stand-in.

    Attributes:
        requests: the requested operations, in order.
        violations: the requests and answers that did not conform to the published API.
        token, cookie: credentials that a request needs; without them it is redirected to a login page.
    """

    api: Api
    state: State = field(default_factory=State)
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    token: str | None = None
    cookie: str | None = None
    url: str = ""

    @property
    def changes(self) -> list[str]:
        """The requests that change something."""
        return [name for name in self.requests if not re.search("|".join(READING), name)]

    def fault_for(self, operation: str) -> Fault | None:
        """The next fault of an operation; its count is decremented."""
        for fault in self.faults:
            if fault.times and fault.operation in operation:
                fault.times -= 1
                return fault
        return None


@contextmanager
def serving() -> Iterator[StandIn]:
    """A stand-in on a free port of this machine, until the block ends."""
    stand_in = StandIn(_api())
    with serving_http(type("Handler", (_Handler,), {"stand_in": stand_in})) as stand_in.url:
        yield stand_in


@functools.cache
def _api() -> Api:
    return Api(PUBLISHED)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: otherwise the body waits 40 ms for the acknowledgement of the head
    stand_in: StandIn

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_DELETE(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urlsplit(self.path)
        path = re.sub(r"^.*/proxy/+", "/", unquote(address.path))
        query = dict(parse_qsl(address.query, keep_blank_values=True))
        if path == "/login":
            self._send(200, PAGE, "text/html")
        elif path.startswith(("/api/v1/", "/apis/apps/", "/apis/argoproj.io/")):
            self._kubernetes(path, query)
        elif self._allowed():
            self._pipelines(path, query, body)

    def _allowed(self) -> bool:
        if self.stand_in.cookie and self.headers.get("Cookie") != self.stand_in.cookie:
            self._send(302, b"", "text/html", Location="/login")
            return False
        if self.stand_in.token and self.headers.get("authorization") != f"Bearer {self.stand_in.token}":
            self._refuse(refusal(401, 16, "the token has expired", "the token has expired"))
            return False
        return True

    def _pipelines(self, path: str, query: dict[str, str], body: bytes) -> None:
        if match := re.fullmatch(r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", path):
            self.stand_in.requests.append("GetLog")
            return self._log(match[1], match[2])
        operation = self.stand_in.api.operation(self.command, path)
        if operation is None:
            self.stand_in.violations.append(f"no operation {self.command} {path}")
            return self._refuse(Refusal(404, {"code": 5, "message": "Not Found", "details": []}))
        self.stand_in.requests.append(operation.name)
        fault = self.stand_in.fault_for(operation.name)
        if fault and fault.kind == "slow":
            time.sleep(fault.seconds)
        if fault and fault.kind == "drop":
            return self._cut()
        if fault and fault.kind == "page":
            return self._send(200, PAGE, "text/html")
        if fault and fault.kind == "error":
            return self._refuse(refusal(fault.status, 13, "injected by the test", "injected by the test"))
        wrong = self.stand_in.api.wrong_in_query(operation, {key: value for key, value in query.items() if value})
        try:
            message = self._message(body)
        except ValueError:
            return self._refuse(as_recorded("bad-json", 400))
        if operation.name.startswith("UploadPipeline") and message is None:
            return self._send(400, json.dumps(recorded("rest/pipeline-upload-nothing")).encode(), "application/json")
        if operation.body:
            wrong += self.stand_in.api.wrong_in(operation.body, message)
        self._note(operation.name, wrong)
        try:
            answer = self.stand_in.state.answer(operation.name, {**query, **operation.path_values}, message)
        except Refusal as refused:
            return self._refuse(refused)
        self._note(operation.name, self.stand_in.api.wrong_in_answer(operation, answer))
        if fault and fault.kind == "lost":
            return self._cut()
        return self._send(200, json.dumps(answer).encode(), "application/json")

    def _note(self, operation: str, wrong: list[str]) -> None:
        self.stand_in.violations += [f"{operation}: {sentence}" for sentence in wrong]

    def _message(self, body: bytes) -> Any:
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/"):
            return json.loads(body) if body else None
        parts = email.message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
        return next(part.get_payload(decode=True) for part in parts)  # type: ignore[union-attr]

    def _log(self, run_id: str, pod: str) -> None:
        state = self.stand_in.state
        text = log_through_pipelines(state.kubernetes, run_id, pod, run_exists=run_id in state.runs)
        self._send(200, text.encode(), recorded_log("log-of-missing-run")[0]["Content-Type"])

    def _kubernetes(self, path: str, query: dict[str, str]) -> None:
        status, answer = self.stand_in.state.kubernetes.answer(path, query)
        if isinstance(answer, str):
            return self._send(status, answer.encode(), "text/plain")
        return self._send(status, json.dumps(answer).encode(), "application/json")

    def _refuse(self, refused: Refusal) -> None:
        self.stand_in.violations += self.stand_in.api.wrong_in_error(refused.body)
        self._send(refused.status, json.dumps(refused.body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)
