"""A web server on this machine that serves one file and can fail in the ways in which servers fail."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal

from tests.http_servers import serving as serving_http

Fault = Literal["none", "busy", "cut", "missing", "forbidden"] | str


@dataclass
class Site:
    """The file at `url`, and the fault of each request in turn; later requests succeed.

    Attributes:
        content: the bytes of the file.
        faults: "busy" answers 503, "cut" sends half and closes, "missing" 404, "forbidden" 403.
        headers: sent with every answer that has the file in it.
        ranges: the Range header of each request.
    """

    content: bytes
    faults: list[Fault] = field(default_factory=list)
    forever: Fault = "none"
    etag: str = '"v1"'
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    ranges: list[str | None] = field(default_factory=list)


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serves until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.ranges.append(self.headers["Range"])
            fault = site.faults.pop(0) if site.faults else site.forever
            refusals = {"busy": 503, "missing": 404, "forbidden": 403}
            if fault in refusals:
                self.send_response(refusals[fault])
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            first = self._first_byte()
            body = site.content[first:]
            self.send_response(206 if first else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", site.etag)
            for name, value in site.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
            self.close_connection = fault == "cut"

        def _first_byte(self) -> int:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            return int(asked[1]) if asked and self.headers["If-Range"] == site.etag else 0

    with serving_http(Handler) as address:
        site.url = f"{address}/corpus.zip"
        yield site
