"""Requests without a pause from a few threads, each on one connection as long as the server allows."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipelines.serving.proxy import HEADER

BODY = json.dumps({"model": "wikigpt", "prompt": "The castle", "max_tokens": 4, "temperature": 0})


@dataclass
class Load:
    """What the requests were answered: the time, the status and the version of each, in their order."""

    answers: list[tuple[float, int, str | None]] = field(default_factory=list)

    @property
    def failed(self) -> list[tuple[float, int, str | None]]:
        """Answers that are no success or do not name their version; status 0 is none at all."""
        return [answer for answer in self.answers if answer[1] != 200 or not answer[2]]

    def versions(self) -> list[str | None]:
        """The versions in the order in which they first answered."""
        return list(dict.fromkeys(version for _, _, version in self.answers))

    def wait_for(self, version: str, seconds: float = 30) -> None:
        """Waits until a version answers."""
        until = time.monotonic() + seconds
        while version not in [answer[2] for answer in self.answers[-20:]]:
            assert time.monotonic() < until, f"no answer by {version}: {self.answers[-3:]}"
            time.sleep(0.02)


@contextmanager
def under_load(port: int, threads: int = 4) -> Iterator[Load]:
    """Sends requests until the block ends."""
    load, over = Load(), threading.Event()

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while not over.is_set():
            try:
                connection.request("POST", "/v1/completions", BODY, {"Content-Type": "application/json"})
                response = connection.getresponse()
                response.read()
                load.answers.append((time.monotonic(), response.status, response.getheader(HEADER)))
            except (OSError, http.client.HTTPException):
                load.answers.append((time.monotonic(), 0, None))
                connection.close()
            time.sleep(0.005)
        connection.close()

    senders = [threading.Thread(target=send) for _ in range(threads)]
    for sender in senders:
        sender.start()
    try:
        yield load
    finally:
        over.set()
        for sender in senders:
            sender.join()
