"""A file for locust: users who ask for short completions at a steady rate.

    locust -f tests/completions_load.py --headless -u USERS -r USERS -H http://127.0.0.1:8000

WIKIGPT_LOAD_USERS repeats the number of users, WIKIGPT_LOAD_RATE is the number of requests a second of all users, and
WIKIGPT_LOAD_FILE gets a line for each request: the time of its answer, the version that the answer names, whether it
succeeded, and its milliseconds.
"""

import json
import os
import time
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task

# Each user waits for an answer before the next request, so that many are needed for a rate that latency does not lower.
USERS = int(os.environ["WIKIGPT_LOAD_USERS"])
RATE = float(os.environ["WIKIGPT_LOAD_RATE"])
HEADER = "x-wikigpt-version"
ASKED = {"model": "wikigpt", "prompt": "The castle", "max_tokens": 4, "temperature": 0}
LINES = open(os.environ["WIKIGPT_LOAD_FILE"], "a", buffering=1, encoding="utf-8")  # noqa: SIM115 (until the process ends)


class Reader(FastHttpUser):
    """A user who knows one address and one name of the model, whichever version answers."""

    wait_time = constant_throughput(RATE / USERS)
    network_timeout = connection_timeout = 30.0

    @task
    def complete(self) -> None:
        with self.client.post("/v1/completions", json=ASKED, catch_response=True) as response:
            if response.status_code == 200 and not (response.headers or {}).get(HEADER):
                response.failure("the answer names no version")


@events.request.add_listener
def note(response_time: float, exception: Any, response: Any, **_: Any) -> None:
    """Writes the line of a request."""
    version = (getattr(response, "headers", None) or {}).get(HEADER)
    LINES.write(json.dumps([time.time(), version, exception is None, round(response_time, 1)]) + "\n")
