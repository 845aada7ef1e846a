"""Asks a server for completions by the OpenAI API, `POST /v1/completions`, without a proxy of the environment."""

from __future__ import annotations

import http.client
import json
import math
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from components.shared.base.failure import ExitCode, Failure, first_line

NAME = "wikigpt"  # the name of the served model in requests, for every version
_SHOWN = 300  # characters of an answer that a message quotes


class ServerFailure(Failure):
    """A server does not answer a request, or not by a completion."""


@dataclass(frozen=True)
class Answer:
    """A completion by a server.

    Attributes:
        text: the new text.
        seconds: from the request to the end of the answer.
    """

    text: str
    seconds: float


def complete(endpoint: str, prompt: str, max_tokens: int, *, model: str = NAME, timeout: float = 60.0) -> Answer:
    """Asks for a greedy completion.

    Args:
        endpoint: the address of the server, such as http://127.0.0.1:8000.
        prompt: the beginning of the text.
        max_tokens: the maximum number of new tokens.
        model: the name of the model that the server knows.
        timeout: the seconds to wait for each part of the answer.

    Raises:
        ServerFailure: it cannot be reached, answers with an error, or answers with something else.
    """
    started = time.monotonic()
    body = {"model": model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    text = _choice(endpoint, body, timeout).get("text")
    if not isinstance(text, str):
        raise _failure("The server answered a completion without a text", endpoint)
    return Answer(text, time.monotonic() - started)


def nll_per_token(endpoint: str, text: str, *, model: str = NAME, timeout: float = 60.0) -> float | None:
    """The mean negative log-likelihood of a text by the server's log-probabilities, in nats; None if it gives none.

    The first token has no context and does not count, as in `components/register/completions.py`.

    Raises:
        ServerFailure: see `complete`.
    """
    body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1}
    logprobs = _choice(endpoint, body, timeout).get("logprobs") or {}
    try:
        # The last one is of the token that the server has to add.
        values = [float(value) for value in logprobs["token_logprobs"][1:-1]]
    except (KeyError, TypeError, ValueError):
        return None
    return -math.fsum(values) / len(values) if values else None


def _choice(endpoint: str, body: dict[str, Any], timeout: float) -> dict[str, Any]:
    status, content = _post(endpoint, "/v1/completions", body, timeout)
    try:
        choice = json.loads(content)["choices"][0] if status == 200 else None
    except (ValueError, KeyError, IndexError, TypeError):
        choice = None
    if not isinstance(choice, dict):
        said = first_line(content.decode(errors="replace"))[:_SHOWN]
        raise _failure(f"The server answered {status} to a completion: {said}", endpoint)
    return choice


def _post(endpoint: str, path: str, body: dict[str, Any], timeout: float) -> tuple[int, bytes]:
    parts = urlsplit(endpoint)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection.request("POST", f"{parts.path.rstrip('/')}{path}", json.dumps(body).encode(), headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise _failure(f"The server does not answer: {error or type(error).__name__}", endpoint) from error
    finally:
        connection.close()


def _failure(what: str, endpoint: str) -> ServerFailure:
    return ServerFailure(what, where=endpoint, remedy="read the log of the server", exit_code=ExitCode.UNREACHABLE)
