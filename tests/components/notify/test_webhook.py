"""Delivery to a real server on this machine."""

import socket
import time

import pytest

from components.notify.webhook import deliver

DOCUMENT = {"text": "Run run-1 succeeded", "word_perplexity": 139.2}


def test_the_document_arrives_as_json(receiver):
    assert deliver(receiver.url, DOCUMENT, timeout=2)
    assert receiver.posted == [DOCUMENT]


def test_a_busy_server_is_asked_again(receiver):
    receiver.answers = [503, 429]
    assert deliver(receiver.url, DOCUMENT, timeout=2)
    assert len(receiver.posted) == 3


@pytest.mark.parametrize(("answers", "attempts"), [([500] * 9, 3), ([404], 1), ([403], 1)])
def test_a_refusal_is_a_warning_without_the_secret(receiver, caplog, answers, attempts):
    receiver.answers = list(answers)
    assert not deliver(receiver.url, DOCUMENT, timeout=2)
    assert len(receiver.posted) == attempts
    assert f"answered {answers[0]}" in caplog.text
    assert "127.0.0.1" in caplog.text
    assert "secret-part" not in caplog.text


def test_a_port_where_nobody_listens_is_a_warning(receiver, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/secret-part"
    assert not deliver(url, DOCUMENT, timeout=2)
    assert "cannot be reached" in caplog.text
    assert "secret-part" not in caplog.text


def test_a_server_that_never_answers_is_not_waited_for(caplog):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        assert not deliver(f"http://127.0.0.1:{silent.getsockname()[1]}/", DOCUMENT, timeout=0.1)
        assert time.monotonic() - started < 5
