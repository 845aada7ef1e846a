"""A registry and a server that takes webhooks, both real."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.http_servers import serving


@dataclass
class Receiver:
    """What was posted to `url`; `answers` are the status codes of the next requests, then 200."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    posted: list[Any] = field(default_factory=list)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    received = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.posted.append(json.loads(body))
            self.send_response(received.answers.pop(0) if received.answers else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as address:
        received.url = f"{address}/hooks/secret-part"
        yield received
