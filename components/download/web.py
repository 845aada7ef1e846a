"""Downloads from a web server to a file, with resumption and with retries after a growing delay."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.shared.base.events import emit
from components.shared.base.failure import ExitCode, Failure
from components.shared.base.redact import redact
from components.shared.storage.files import disk_failure

if TYPE_CHECKING:
    from requests import Response
    from tenacity.wait import wait_base

ATTEMPTS = 5
# The seconds to connect, and between two parts of an answer.
_TIMEOUT = (5.0, 30.0)
_CHUNK = 1 << 18
_PROGRESS_EVERY = 1 << 20
_log = logging.getLogger(__name__)


class _TruncatedBody(Exception):
    """The answer ended before its announced length."""


@dataclass
class _Partial:
    """The bytes received so far, and the ETag of the file that they belong to."""

    path: Path
    etag: str = ""

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def headers(self) -> dict[str, str]:
        plain = {"Accept-Encoding": "identity"}
        if self.size and self.etag:
            return plain | {"Range": f"bytes={self.size}-", "If-Range": self.etag}
        return plain


def download(address: str, target: Path, *, wait: wait_base | None = None) -> None:
    """Streams an address to a file, with progress events.

    An interrupted download is resumed if the server supports ranges. A busy server, a timeout and an interrupted
    connection are retried, up to five attempts in total.

    Args:
        address: `https://…`.
        target: the file; it is written as the bytes arrive, so it must be in a temporary folder.
        wait: the wait between attempts; by default random, below half a second at first and eight seconds at last.

    Raises:
        Failure: the server refuses, cannot be reached, or closes the connection each time; the disk is full.
    """
    import requests
    from tenacity import Retrying, before_sleep_log, retry_if_exception, stop_after_attempt, wait_random_exponential

    partial = _Partial(target)
    attempts = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait or wait_random_exponential(multiplier=0.5, max=8),
        retry=retry_if_exception(_is_retryable),
        before_sleep=before_sleep_log(_log, logging.WARNING),
        reraise=True,
    )
    try:
        attempts(_stream, address, partial)
    except (_TruncatedBody, requests.RequestException) as error:
        raise _failure(address, error) from error
    except OSError as error:
        raise disk_failure(error, target) from error


def _stream(address: str, partial: _Partial) -> None:
    import requests
    from urllib3.exceptions import ProtocolError

    with requests.get(address, headers=partial.headers(), stream=True, timeout=_TIMEOUT) as answer:
        answer.raise_for_status()
        resumed = answer.status_code == 206
        partial.etag = answer.headers.get("ETag", "")
        total = _announced(answer, partial.size if resumed else 0)
        with open(partial.path, "ab" if resumed else "wb") as stream:
            done = reported = stream.tell()
            try:
                for piece in _pieces(answer):
                    done += stream.write(piece)
                    if done - reported >= _PROGRESS_EVERY or done == total:
                        emit("progress", step="download", done=done, total=total)
                        reported = done
            except ProtocolError as error:
                raise _TruncatedBody(f"{done:,} of {total:,} bytes" if total else f"{done:,} bytes") from error


def _pieces(answer: Response) -> Iterator[bytes]:
    """Yields the body as the server sends it.

    A content encoding that was not requested is not decoded: a few bytes could decode to more than the disk holds,
    and a truncated body could not be resumed at a position of the decoded bytes.
    """
    import requests
    from urllib3.exceptions import ReadTimeoutError, SSLError

    try:
        yield from answer.raw.stream(_CHUNK, decode_content=False)
    except ReadTimeoutError as error:
        raise requests.ConnectionError(error) from error
    except SSLError as error:
        raise requests.exceptions.SSLError(error) from error


def _announced(answer: Response, had: int) -> int | None:
    length = answer.headers.get("Content-Length", "")
    return had + int(length) if length.isdigit() else None


def _is_retryable(error: BaseException) -> bool:
    """Whether a retry may succeed. It does not after a failed name resolution."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code >= 500 or error.response.status_code in (408, 429)
    if isinstance(error, requests.ConnectionError) and "NameResolutionError" in repr(error):
        return False
    return isinstance(error, (_TruncatedBody, requests.ConnectionError, requests.Timeout))


def _failure(address: str, error: Exception) -> Failure:
    import requests

    where = redact(address)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        status = error.response.status_code
        return Failure(
            f"The server answered {status} {error.response.reason}",
            where=where,
            remedy="check that the address is right and that you may read it, or give --corpus another one",
            exit_code=ExitCode.UNAUTHORISED if status in (401, 403) else ExitCode.FAILED,
        )
    if isinstance(error, _TruncatedBody):
        return Failure(
            f"The connection was closed early in all {ATTEMPTS} attempts, the last time after {error}",
            where=where,
            remedy="run again later, or fetch the file by other means and give --corpus its folder",
        )
    return Failure(
        f"The server cannot be reached: {type(error).__name__}",
        where=where,
        remedy="check the network and the address, or give --corpus a local folder",
        exit_code=ExitCode.UNREACHABLE,
    )
