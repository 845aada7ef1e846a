"""Receives MLflow's webhook `model_version_alias.created`, by which a rollout begins at once.

The webhook only wakes the rollout, which asks the registry itself. So a delivery that is repeated or late does no harm.
MLflow signs a delivery by HMAC-SHA256 over its ID, its time and its body, as Standard Webhooks do
(`mlflow/webhooks/delivery.py`).
"""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from components.shared.base.failure import Failure
from components.shared.tracking import registry

SECRET = "WIKIGPT_ROLLOUT_WEBHOOK_SECRET"
_ID, _TIME, _SIGNATURE = "X-MLflow-Delivery-Id", "X-MLflow-Timestamp", "X-MLflow-Signature"
_TOLERANCE = 300.0  # seconds between the clocks of MLflow and of this process, retries included
_LARGEST = 64 * 1024  # bytes of a delivery

Report = Callable[[str], object]


class Refused(Exception):
    """A delivery is not authentic. The text continues a sentence: "A webhook was refused: it …"."""


def require_authentic(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> None:
    """Checks the signature and the time of a delivery.

    Args:
        headers: of the request.
        body: of the request.
        secret: the secret of the webhook in MLflow.
        now: the time in seconds since 1970.

    Raises:
        Refused: somebody else signed it, or it is too old.
    """
    delivery, sent, signature = (headers.get(name) or "" for name in (_ID, _TIME, _SIGNATURE))
    if not (delivery and sent and signature):
        raise Refused("has no signature")
    digest = hmac.digest(secret.encode(), f"{delivery}.{sent}.".encode() + body, "sha256")
    expected = f"v1,{base64.b64encode(digest).decode()}"
    if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
        raise Refused("has a wrong signature")
    if not sent.isdecimal() or abs(now - int(sent)) > _TOLERANCE:
        raise Refused(f"was not sent within the last {_TOLERANCE:g} s")


def moves_champion(body: bytes, model: str | None) -> bool:
    """Whether a delivery says that the alias champion was set, on the given model or on any."""
    try:
        sent = json.loads(body)
        data = sent["data"]
        event = (sent["entity"], sent["action"], data["alias"])
        return event == ("model_version_alias", "created", registry.CHAMPION) and model in (None, data["name"])
    except (ValueError, LookupError, TypeError):
        return False


def receiver(
    port: int, secret: str, model: str | None, wake: Callable[[], object], report: Report
) -> ThreadingHTTPServer:
    """The server for deliveries, which does not run yet.

    It answers 202 if the champion was moved, 200 to any other authentic delivery, and 401 to one that is not.

    Args:
        port: the port on all addresses of this machine.
        secret: the secret of the webhook in MLflow.
        model: the name of the registered model; None for any.
        wake: called when the champion was moved; it must return at once.
        report: called with one line for each delivery that was refused.

    Raises:
        OSError: the port is in use.
    """

    class Receiver(BaseHTTPRequestHandler):
        timeout = 10  # seconds for a request to arrive

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/health" else 404)

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            if not length.isdecimal() or int(length) > _LARGEST:
                self._answer(413 if length.isdecimal() else 411)
                return
            body = self.rfile.read(int(length))
            try:
                require_authentic(dict(self.headers), body, secret, time.time())
            except Refused as refused:
                report(f"A webhook from {self.client_address[0]} was refused: it {refused}.")
                self._answer(401)
                return
            moved = moves_champion(body, model)
            if moved:
                wake()
            self._answer(202 if moved else 200)

        def _answer(self, status: int) -> None:
            self.close_connection = True
            with suppress(OSError):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing about probes and deliveries that are accepted."""

    return ThreadingHTTPServer(("0.0.0.0", port), Receiver)


def listen(port: int, secret: str, model: str | None, roll: Callable[[], object], report: Report) -> None:
    """Rolls out at the start and whenever a delivery says that the champion was moved, until the process ends.

    Deliveries that arrive during a rollout lead to one more.

    Args:
        port, secret, model, report: see `receiver`.
        roll: rolls out. A Failure is reported, and the process goes on.
    """
    woken = threading.Event()
    woken.set()
    with receiver(port, secret, model, woken.set, report) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        while woken.wait():
            woken.clear()
            try:
                roll()
            except Failure as failure:
                report(str(failure))
