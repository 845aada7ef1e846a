"""A notice that fails never fails a good run, and never leaves its MLflow run open."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest
from mlflow.exceptions import MlflowException

from components.notify.run import run
from components.notify.webhook import deliver
from components.shared.runtime.step import Step
from tests.components.notify.conftest import receiver  # noqa: F401
from tests.components.notify.test_run import FAILED, SUCCEEDED, finish, mlflow_run, step, train  # noqa: F401

Make = Callable[..., Step]
MALFORMED = [
    "http://[::1", "http://host:99999/", "http://host:port/", "https://a b/", "http:///nohost", "://", "x",
    "ftp://host/", "http://\udcff/", f"https://{'a' * 70}.example/", "https://host/\n", "http://.", "http://%zz:1/",
    "http://a..b/",
]  # fmt: skip


@pytest.mark.parametrize("address", MALFORMED, ids=repr)
def test_an_address_that_is_none_is_a_warning(address: str, caplog: pytest.LogCaptureFixture) -> None:
    assert not deliver(address, {"text": "x"}, timeout=0.2)
    assert "the notice was not delivered" in caplog.text


@pytest.mark.parametrize("address", MALFORMED, ids=repr)
def test_no_address_fails_a_run(step: Make, address: str, monkeypatch, caplog) -> None:  # noqa: F811
    from components.notify import run as module

    monkeypatch.setattr(module.os, "environ", {**module.os.environ, "WIKIGPT_WEBHOOK": address})
    here = step(timeout=0.2)
    run(here, SUCCEEDED)
    assert "not delivered" in caplog.text
    assert mlflow_run(here).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timeout": 600.0}, "notify.timeout must be from 0.1 to 60"),
        ({"web": 1}, "There is no setting notify.web"),
        ({"webhook": "${WIKIGPT_SECRET_NOTIFY_WEBHOOK}"}, "WIKIGPT_SECRET_NOTIFY_WEBHOOK, which is not set"),
        ({"webhook": "http://[::1"}, "notify.webhook must be an http:// or https:// address"),
    ],
)
def test_settings_that_do_not_fit_fail_no_run(step: Make, settings, said, caplog) -> None:  # noqa: F811
    here = step(**settings)
    run(here, SUCCEEDED)
    assert "The notice was not delivered" in caplog.text
    assert said in caplog.text
    assert mlflow_run(here).info.status == "FINISHED"


@pytest.mark.parametrize("error", [MlflowException("too long"), OSError(28, "No space left"), RuntimeError("odd")])
@pytest.mark.parametrize("call", ["log_batch", "log_text", "get_model_version"])
def test_mlflow_that_refuses_one_thing_does_the_others(step: Make, call, error, monkeypatch, caplog) -> None:  # noqa: F811
    here = step()
    train(here)
    finish(here, "train")
    from components.shared.runtime.run_record import write_log

    write_log(here.store, here.run, "train", "step 1\n")

    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(here.tracking.client, call, refuse)
    run(here, FAILED)
    assert caplog.records
    assert mlflow_run(here).info.status == "FAILED"


def test_a_store_that_breaks_leaves_no_mlflow_run_open(step: Make, monkeypatch, caplog) -> None:  # noqa: F811
    def broken(*_: object) -> None:
        raise ValueError("no JSON")

    here = step()
    for name in ("read_record", "end_heartbeat"):
        monkeypatch.setattr(f"components.notify.run.{name}", broken)
    run(here, FAILED)
    assert "The record of the steps cannot be read: ValueError: no JSON" in caplog.text
    assert mlflow_run(here).info.status == "FAILED"


def test_a_perplexity_that_is_no_number_is_left_out(step: Make, receiver) -> None:  # noqa: F811
    here = step(webhook=receiver.url)
    train(here)
    here.tracking.client.set_model_version_tag("wikigpt", "1", "wikigpt.test.word_perplexity", "n/a")
    run(here, SUCCEEDED)
    assert receiver.posted[0]["word_perplexity"] is None


def test_all_is_closed_before_the_webhook_is_asked(step: Make, monkeypatch) -> None:  # noqa: F811
    seen = []
    here = step(webhook="https://host/")
    monkeypatch.setattr("components.notify.run.deliver", lambda *_, **__: seen.append(mlflow_run(here).info.status))
    run(here, SUCCEEDED)
    assert seen == ["FINISHED"]


def test_a_server_that_answers_drop_by_drop_is_not_waited_for() -> None:
    """Each byte arrives before the time-out of a read, but the whole answer would take minutes."""

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(100):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return
                time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=drip, args=(server,), daemon=True).start()
        started = time.monotonic()
        assert deliver(f"http://127.0.0.1:{server.getsockname()[1]}/", {"text": "x"}, timeout=1)
        assert time.monotonic() - started < 3
