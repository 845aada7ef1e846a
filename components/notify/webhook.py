"""Posts a JSON document to a webhook, with short time-outs and three attempts."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

_ATTEMPTS = 3
_log = logging.getLogger(__name__)


def deliver(address: str, document: dict[str, Any], *, timeout: float) -> bool:
    """Posts a document. Every error is only a warning, because a notice must not fail a run.

    Args:
        address: the address of the webhook, which may be invalid. Messages show only its host, since the rest may be a
            secret.
        document: JSON values.
        timeout: the seconds for connecting and for each read of one of three attempts.

    Returns:
        Whether the server accepted the document.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    attempts = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=2),
        retry=retry_if_exception(_is_retryable),
        reraise=True,
    )
    try:
        attempts(_post, address, document, timeout)
    except Exception as error:  # for an invalid address, requests also raises exceptions of its dependencies
        _log.warning("The webhook at %s %s: the notice was not delivered", _host(address), _reason(error))
        return False
    return True


def _host(address: str) -> str:
    try:
        host = urlsplit(address).hostname or "no host"
        return host.encode("utf-8", "backslashreplace").decode()  # a log must be UTF-8, unlike an argument
    except ValueError:
        return "no host"


def _reason(error: Exception) -> str:
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"answered {error.response.status_code}"
    unreachable = isinstance(error, requests.ConnectionError | requests.Timeout)
    return f"cannot be {'reached' if unreachable else 'used'} ({type(error).__name__})"


def _post(address: str, document: dict[str, Any], timeout: float) -> None:
    import requests

    # The body is not read: a server that sends it slowly would keep the run open.
    with requests.post(address, json=document, timeout=timeout, allow_redirects=False, stream=True) as answer:
        answer.raise_for_status()


def _is_retryable(error: BaseException) -> bool:
    """Whether a retry may succeed: the server could not be reached or was busy."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, (requests.ConnectionError, requests.Timeout))
