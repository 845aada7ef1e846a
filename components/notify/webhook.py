"""A JSON document to an address, by POST, with short patience."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

_ATTEMPTS = 3
_log = logging.getLogger(__name__)


def deliver(address: str, document: dict[str, Any], *, timeout: float) -> bool:
    """Posts a document. What goes wrong is a warning: a notice never fails a run.

    Args:
        address: of the webhook; only its host is ever shown, since the rest may be a secret.
        document: JSON values.
        timeout: seconds for connecting and for each read of one of three attempts.

    Returns:
        Whether the other side took it.
    """
    import requests
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

    attempts = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.2, max=2),
        retry=retry_if_exception(_may_pass),
        reraise=True,
    )
    try:
        attempts(_post, address, document, timeout)
    except requests.RequestException as error:
        status = getattr(error.response, "status_code", None)
        reason = f"answered {status}" if status else f"cannot be reached ({type(error).__name__})"
        _log.warning("The webhook at %s %s: the notice was not delivered", urlsplit(address).hostname, reason)
        return False
    return True


def _post(address: str, document: dict[str, Any], timeout: float) -> None:
    import requests

    requests.post(address, json=document, timeout=timeout, allow_redirects=False).raise_for_status()


def _may_pass(error: BaseException) -> bool:
    """Whether a later attempt may go better: the other side was away or busy."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, (requests.ConnectionError, requests.Timeout))
