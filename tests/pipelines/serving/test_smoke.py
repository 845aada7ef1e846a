"""The smoke test compares completions and latencies of servers that answer over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from mlflow import MlflowClient

from components.register.completions import NEW_TOKENS, PASSAGE, PROMPTS
from components.shared.base.failure import Failure
from components.shared.tracking import registry
from components.shared.tracking.sqlite_registry import sqlite_registry
from pipelines.registry.references import resolve
from pipelines.serving.completions import ServerFailure, complete
from pipelines.serving.smoke import Completion, Expected, Limits, agrees, percentile, smoke_test
from tests.http_servers import free_port, serving

RECORDED = {"The castle": " was built in 1212 by the king", "The river": " runs from the hill to the sea"}
EXPECTED = Expected(tuple(Completion(*each) for each in RECORDED.items()), max_tokens=8)


@contextmanager
def answering(texts: dict[str, str], *, status: int = 200, seconds: float = 0.0, document: Any = None) -> Iterator[str]:
    """A server with these completions, and others " …"."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            time.sleep(seconds)
            answer = document or {"choices": [{"text": texts.get(asked["prompt"], " …")}]}
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serving(Handler) as address:
        yield address


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (" was built in 1212 by the king", True),
        (" was  built\nin 1212 by the queen of another valley", True),  # differs in its second half, and in white space
        (" was built in 12", True),
        (" was built on a hill", False),
        ("", False),
    ],
)
def test_a_completion_agrees_if_its_first_half_is_equal(made: str, expected: bool) -> None:
    assert agrees(made, RECORDED["The castle"], 0.5) is expected


def test_a_recorded_completion_of_white_space_agrees_with_nothing_else() -> None:
    assert agrees(" ", " \n \n", 0.5)
    assert not agrees(" was built", " \n \n", 0.5)


def test_a_server_with_the_recorded_completions_passes() -> None:
    with answering(RECORDED) as address:
        result = smoke_test(address, EXPECTED, Limits(requests=3))
    assert (result.passed, result.compared, result.agreed) == (True, 2, 2)
    assert result.p99 is not None and 0 < result.p99 < 5


def test_half_of_the_completions_suffice_and_less_do_not() -> None:
    with answering({"The castle": RECORDED["The castle"]}) as address:
        assert smoke_test(address, EXPECTED, Limits(requests=1)).agreed == 1
    with answering({}) as address:
        result = smoke_test(address, EXPECTED, Limits(requests=1))
    assert not result.passed
    assert result.problem == "Only 0 of 2 completions begin as those that were recorded with the version"


def test_a_version_without_recorded_completions_has_to_answer() -> None:
    with answering({}) as address:
        assert smoke_test(address, Expected(), Limits(requests=2)).compared == 0
    with answering({}, status=500) as address:
        result = smoke_test(address, Expected(), Limits(requests=2))
    assert result.problem and result.problem.startswith("The server answered 500 to a completion")


def test_a_server_may_be_a_tenth_slower_than_the_one_before() -> None:
    limits, expected = Limits(requests=2, noise=0.08), Expected()
    with answering({}, seconds=0.2) as slow, answering({}) as fast:
        assert smoke_test(fast, expected, limits, before=slow).passed
        assert smoke_test(slow, expected, limits, before=slow).passed
        result = smoke_test(slow, expected, limits, before=fast)
        assert result.problem and "above 1.1 times the" in result.problem
        assert result.p99 and result.p99_before and result.p99 > 1.1 * result.p99_before
        nobody = f"http://127.0.0.1:{free_port()}"
        assert smoke_test(slow, expected, limits, before=nobody).p99_before is None
        limit = Limits(requests=2, p99_seconds=0.05)
        problem = smoke_test(slow, expected, limit, before=slow).problem
        assert problem and problem.endswith("above the limit of 0.05 s")


@pytest.mark.parametrize("requests", [0, 1, 3], ids=["before the first", "of a completion", "of the other server"])
def test_a_failure_between_two_requests_ends_the_test_and_is_no_finding(requests: int) -> None:
    """Such as one of Kubernetes, when the Lease is renewed, or of an engine that is supervised meanwhile."""
    made = []

    def between() -> None:
        made.append(True)
        if len(made) > requests:
            raise Failure("Kubernetes does not answer", where="here", remedy="run again")

    with answering(RECORDED) as address, pytest.raises(Failure, match="Kubernetes does not answer"):
        smoke_test(address, EXPECTED, Limits(requests=3), before=address, between=between)


def test_the_p99_of_few_requests_is_the_slowest() -> None:
    assert percentile([1.0, 3.0, 2.0], 0.99) == 3.0
    assert percentile([float(value) for value in range(200)], 0.99) == 197.0


def test_log_probabilities_are_compared_instead_if_the_server_gives_them() -> None:
    """The format is that of OpenAI's `echo` and `logprobs`, as vLLM answers: the first token has none."""
    expected = Expected(EXPECTED.completions, 8, "The castle stands", 2.0)
    logprobs = {"token_logprobs": [None, -1.9, -2.12, -7.0]}
    with answering({}, document={"choices": [{"text": " …", "logprobs": logprobs}]}) as address:
        result = smoke_test(address, expected, Limits(requests=1))
        assert (result.passed, result.difference) == (True, pytest.approx(0.01))
        problem = smoke_test(address, replace(expected, nll_per_token=2.2), Limits(requests=1)).problem
    assert problem and problem.startswith("The passage has -0.190 nats per token")


@pytest.mark.parametrize(
    ("status", "document", "said"),
    [
        (200, {"choices": []}, "answered 200"),
        (200, {"text": "x"}, "answered 200"),
        (200, {"choices": [{}]}, "without a text"),
        (404, {"detail": "no"}, "no"),
    ],
)
def test_another_answer_is_one_sentence(status: int, document: Any, said: str) -> None:
    with answering({}, status=status, document=document) as address, pytest.raises(ServerFailure, match=said):
        complete(address, "The castle", 1)


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(ServerFailure, match=r"The server does not answer: .*refused"):
        complete(f"http://127.0.0.1:{free_port()}", "The castle", 1)


def test_the_completions_of_a_version_are_those_that_it_was_registered_with(filled: MlflowClient) -> None:
    """They are read from the database and by MLflow, and the model makes them again."""
    from pipelines.registry.generation import load_writer, write

    version = resolve(filled, "champion")
    local = sqlite_registry(filled.tracking_uri)
    assert local is not None
    expected = Expected.of(local, resolve(local, "champion"))
    assert expected == Expected.of(filled, version)
    assert expected.max_tokens == NEW_TOKENS
    assert [each.prompt for each in expected.completions] == list(PROMPTS)
    assert expected.passage == PASSAGE
    writer = load_writer(filled, version)
    ids = writer.tokenizer(PASSAGE, return_tensors="pt").input_ids
    assert float(writer.model(ids, labels=ids).loss.detach()) == pytest.approx(expected.nll_per_token, abs=1e-5)
    for each in expected.completions:
        made = write(writer, each.prompt, max_new_tokens=NEW_TOKENS, temperature=0)
        assert made == each.prompt + each.text


def test_a_version_of_an_earlier_release_has_none(filled: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "COMPLETIONS", "of-a-later-release.json")
    assert Expected.of(filled, resolve(filled, "champion")) == Expected()
    local = sqlite_registry(filled.tracking_uri)
    assert local is not None and Expected.of(local, resolve(local, "champion")) == Expected()
