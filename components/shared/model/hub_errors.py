"""Translates errors of the Hugging Face Hub into failures. Only a network error means that the Hub is unreachable.

`huggingface_hub` suggests a network error whenever its cache lacks a file, and its errors of HTTP and of the cache are
all `OSError`, so the chain of causes is examined.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from components.shared.base.failure import ExitCode, Failure, first_line

_REFUSED = (401, 403)
_BUSY = (408, 429)


def hub_failure(error: Exception, what: str, where: str, otherwise: str) -> Failure:
    """The failure for an error of the Hub.

    Args:
        error: an exception of `huggingface_hub` or `requests`.
        what: the start of the message, such as "The tokenizer cannot be downloaded".
        where: the address on the Hub.
        otherwise: the remedy on a machine without access to the Hub.
    """
    chain = list(_chain(error))
    why, remedy, code = _from_response(chain) or _from_network(chain) or _from_cache(chain) or _unknown(error)
    return Failure(f"{what}: {why}", where=where, remedy=f"{remedy}, or {otherwise}", exit_code=code)


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` keeps this process from sending requests to the Hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


Meaning = tuple[str, str, ExitCode]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _from_response(chain: list[BaseException]) -> Meaning | None:
    """The meaning of a response of the Hub or of a proxy."""
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    answered = next((error for error in chain if isinstance(error, HfHubHTTPError)), None)
    if answered is None:
        return None
    status = answered.response.status_code
    if isinstance(answered, RevisionNotFoundError):
        return "it has no such revision", "fix the revision", ExitCode.FAILED
    if status in _REFUSED:
        remedy = "fix the name, or set HF_TOKEN to a token that may read it"
        return f"there is no such repository, or it is not open to you (HTTP {status})", remedy, ExitCode.UNAUTHORISED
    if status >= 500 or status in _BUSY:
        return f"the Hub is busy or down (HTTP {status})", "try again later", ExitCode.UNREACHABLE
    return f"the Hub answered {status}", "check the address", ExitCode.FAILED


def _from_network(chain: list[BaseException]) -> Meaning | None:
    import httpx2
    import requests
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    off = any(isinstance(error, OfflineModeIsEnabled) for error in chain)
    if off or (is_offline() and any(isinstance(error, LocalEntryNotFoundError) for error in chain)):
        why = "the cache does not contain it, and HF_HUB_OFFLINE forbids requests to the Hub"
        return why, "unset HF_HUB_OFFLINE", ExitCode.UNREACHABLE
    # In `requests`, the exceptions for an invalid address are also a ValueError.
    wrong = (httpx2.UnsupportedProtocol, httpx2.InvalidURL)
    if any(
        isinstance(error, wrong) or (isinstance(error, requests.RequestException) and isinstance(error, ValueError))
        for error in chain
    ):
        address = os.environ.get("HF_ENDPOINT", "")
        return f"{address!r} is not the address of a Hub", "fix HF_ENDPOINT", ExitCode.USAGE
    network = (httpx2.TransportError, requests.ConnectionError, requests.Timeout, ConnectionError, TimeoutError)
    if found := next((error for error in chain if isinstance(error, network)), None):
        return f"it cannot be reached ({type(found).__name__})", "check the network", ExitCode.UNREACHABLE
    return None


def _from_cache(chain: list[BaseException]) -> Meaning | None:
    """The meaning of an error while the cache was written."""
    from huggingface_hub import constants
    from huggingface_hub.errors import FileMetadataError, LocalEntryNotFoundError

    other = (LocalEntryNotFoundError, FileMetadataError)
    failed = (error for error in chain if isinstance(error, OSError) and not isinstance(error, other))
    if (error := next(failed, None)) is None:
        return None
    path = error.filename or constants.HF_HUB_CACHE
    why = f"the cache of the Hub cannot be used: {error.strerror or error} ({path})"
    return why, "free some space, or set HF_HOME to a folder that can be written", ExitCode.FAILED


def _unknown(error: Exception) -> Meaning:
    return f"{type(error).__name__}: {first_line(error)[:200]}", "run again", ExitCode.FAILED
