"""MLflow's own deliveries wake a rollout, and nothing else does."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from mlflow import MlflowClient
from mlflow.entities.webhook import Webhook, WebhookEvent
from mlflow.webhooks import delivery
from mlflow.webhooks.delivery import _generate_hmac_signature

from components.shared.base.failure import ExitCode, Failure
from pipelines.serving.webhook import Refused, listen, receiver, require_authentic
from tests.http_servers import free_port, serving
from tests.pipelines.conftest import Command
from tests.pipelines.serving.stand_in import World, handler_of
from tests.registry import make_version
from tests.servers import mlflow_server

SECRET, NOW = "a secret", 1_800_000_000.0
ALIAS = WebhookEvent.from_str("model_version_alias.created")
CHAMPION = {"name": "wikigpt", "alias": "champion", "version": "8"}


@dataclass
class Received:
    """What a receiver did."""

    port: int
    woken: list[bool] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def webhook(self) -> Webhook:
        """As MLflow's server keeps it."""
        url = f"http://127.0.0.1:{self.port}/"
        return Webhook("id", "rollout", url, [ALIAS], 0, 0, secret=SECRET)


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Iterator[Received]:
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    made = Received(free_port())
    with receiver(made.port, SECRET, "wikigpt", lambda: made.woken.append(True), made.said.append) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield made
        server.shutdown()


def deliver(received: Received, payload: dict[str, Any], event: WebhookEvent = ALIAS, secret: str = SECRET) -> int:
    """Sends a delivery by the code of MLflow's server."""
    webhook = received.webhook
    webhook._secret = secret
    session = delivery._create_webhook_session()
    return delivery._send_webhook_request(webhook, payload, event, session).status_code  # type: ignore[arg-type]


def test_a_click_wakes_the_rollout(received: Received) -> None:
    assert deliver(received, CHAMPION) == 202
    assert (received.woken, received.said) == ([True], [])


@pytest.mark.parametrize("other", [{"alias": "challenger"}, {"name": "wikigpt-sample"}])
def test_another_alias_or_model_does_not(received: Received, other: dict[str, str]) -> None:
    assert deliver(received, CHAMPION | other) == 200
    assert received.woken == []


def test_another_event_does_not(received: Received) -> None:
    assert deliver(received, CHAMPION, WebhookEvent.from_str("model_version_alias.deleted")) == 200
    assert received.woken == []


@pytest.mark.parametrize("secret", ["another secret", ""])
def test_a_delivery_with_a_wrong_signature_or_none_is_one_line_and_no_rollout(received: Received, secret: str) -> None:
    assert deliver(received, CHAMPION, secret=secret) == 401
    why = "has a wrong signature" if secret else "has no signature"
    assert (received.woken, received.said) == ([], [f"A webhook from 127.0.0.1 was refused: it {why}."])


def signed(body: bytes, sent: str) -> dict[str, str]:
    signature = _generate_hmac_signature(SECRET, "an-id", sent, body.decode())
    return {"X-MLflow-Delivery-Id": "an-id", "X-MLflow-Timestamp": sent, "X-MLflow-Signature": signature}


def test_the_signature_covers_the_id_the_time_and_the_body() -> None:
    body, sent = b'{"data": 1}', str(int(NOW))
    good = signed(body, sent)
    require_authentic(good, body, SECRET, NOW)
    changed = [
        (good, b'{"data": 2}'),
        (good | {"X-MLflow-Delivery-Id": "another"}, body),
        (good | {"X-MLflow-Timestamp": str(int(NOW) + 1)}, body),
        (good | {"X-MLflow-Signature": good["X-MLflow-Signature"].replace("v1,", "v0,")}, body),
        (good | {"X-MLflow-Signature": "v1,\u00e9"}, body),
    ]
    for headers, content in changed:
        with pytest.raises(Refused, match="wrong signature"):
            require_authentic(headers, content, SECRET, NOW)


@pytest.mark.parametrize("sent", [str(int(NOW) - 301), str(int(NOW) + 301), "yesterday", "\u00b2", "-1"])
def test_a_delivery_of_another_time_is_refused(sent: str) -> None:
    with pytest.raises(Refused, match="was not sent within the last 300 s"):
        require_authentic(signed(b"{}", sent), b"{}", SECRET, NOW)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b'{"entity": "model_version_alias"}', b'{"data": {"alias": []}}']
)
def test_an_authentic_delivery_that_is_something_else_is_accepted_and_ignored(received: Received, body: bytes) -> None:
    sent = str(int(time.time()))
    text = body.decode("latin-1")
    headers = signed(body, sent) if text.isascii() else {}
    code = post(received.port, body, headers)
    assert (code, received.woken) == (200 if headers else 401, [])


@pytest.mark.parametrize(("length", "code"), [("1000000", 413), ("-1", 411), ("x", 411)])
def test_a_body_that_is_too_long_is_not_read(received: Received, length: str, code: int) -> None:
    assert post(received.port, b"", {"Content-Length": length}) == code


def post(port: int, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("POST", "/", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.slow
def test_the_server_of_mlflow_wakes_the_rollout_when_somebody_moves_the_alias(
    received: Received, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the request that docs/rollout.md makes."""
    monkeypatch.setenv("MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY", base64.urlsafe_b64encode(bytes(32)).decode())
    events = [{"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}]
    webhook = {"name": "rollout", "url": received.webhook.url, "secret": SECRET, "events": events}
    make_version(MlflowClient(tracking_uri), "wikigpt", 5.0)
    with mlflow_server(tracking_uri, tmp_path) as address:
        requests.post(f"{address}/api/2.0/mlflow/webhooks", json=webhook, timeout=30).raise_for_status()
        MlflowClient(address).set_registered_model_alias("wikigpt", "champion", "1")
        until = time.monotonic() + 30
        while not (received.woken or received.said) and time.monotonic() < until:
            time.sleep(0.05)
    assert (received.woken, received.said) == ([True], [])


def test_the_process_rolls_out_at_its_start_and_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    port, said, rolled = free_port(), [], []

    class Ended(BaseException):
        """Ends the process of the test."""

    def roll() -> None:
        rolled.append(True)
        if len(rolled) == 1:
            event = {"entity": "model_version_alias", "action": "created", "data": CHAMPION}
            body = json.dumps(event).encode()
            assert post(port, body, signed(body, str(int(time.time())))) == 202
            raise Failure("Version 8 failed its rollout", where="here", remedy="correct it")
        raise Ended

    with pytest.raises(Ended):
        listen(port, SECRET, None, roll, said.append)
    assert (len(rolled), said) == (2, ["Version 8 failed its rollout (here): correct it."])


def test_a_receiver_without_a_secret_or_on_a_port_in_use_does_not_start(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Any, received: Received
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with serving(handler_of(World())) as address:
        (tmp_path / ".kube").mkdir()
        (tmp_path / ".kube" / "config").write_text(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
            f"clusters: [{{name: a, cluster: {{server: {address}}}}}]\n"
            "users: [{name: a, user: {token: t}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n"
        )
        code, _, err = command("rollout", "--listen", free_port())
        assert (code, "WIKIGPT_ROLLOUT_WEBHOOK_SECRET is not set" in err) == (ExitCode.USAGE, True)
        code, _, err = command("rollout", "--listen", received.port)
        assert (code, "cannot listen on port" in err, "--listen" in err) == (ExitCode.USAGE, True, True)
