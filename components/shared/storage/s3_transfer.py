"""Uploads and downloads of S3 objects: parts in parallel, bounded memory, verified by sha256.

Uploads use boto3's managed transfer, fed by a stream that raises an error unless its sha256 is right. Downloads are
implemented here, because boto3 neither resumes a partial file nor verifies the sha256 of the whole object.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any, TypeVar

from components.shared.base.failure import Failure
from components.shared.storage.files import PARTIAL, FileFact, disk_failure, rename_into_place
from components.shared.storage.objects import damaged, describe_mismatch, thread_pool
from components.shared.storage.s3_errors import code_of

PART_SIZE = 8 << 20
MAX_CONCURRENCY = 8
_MOST_PARTS = 10_000
_ATTEMPTS = 4
# Error codes for a part that was corrupted on the way.
_CORRUPTED = {
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
    "IncompleteBody",
    "RequestTimeout",
}

Item = TypeVar("Item")
Result = TypeVar("Result")


class TruncatedBody(Exception):
    """The connection ended before the whole response body arrived."""


def send(client: Any, target: dict[str, str], path: Path, fact: FileFact) -> None:
    """Uploads a file in one request, or by boto3's managed transfer if it is larger than `PART_SIZE`.

    Args:
        client: the boto3 client.
        target: `Bucket` and `Key`.
        path: the file.
        fact: the expected size and digest of the file.

    Raises:
        Failure: the file has changed; no object is left under the key.
    """
    from boto3.s3.transfer import TransferConfig

    if fact.size <= PART_SIZE:
        with Verified(path, fact) as stream:
            body = stream.read()
        _retry(lambda: client.put_object(Body=body, **target), _is_corrupted)
        return
    part_size = max(PART_SIZE, -(-fact.size // _MOST_PARTS))
    config = TransferConfig(
        multipart_threshold=part_size,
        multipart_chunksize=part_size,
        max_concurrency=MAX_CONCURRENCY,
        preferred_transfer_client="classic",  # the CRT client, if it is installed, ignores the settings of `client`
    )

    def upload() -> None:
        with Verified(path, fact) as stream:
            client.upload_fileobj(stream, **target, Config=config)

    # The managed transfer does not retry a corrupted part, so the whole file is sent again.
    _retry(upload, _is_corrupted)


class Verified:
    """A file as a stream without seek that returns its last bytes only if the size and sha256 of the file are right.

    Raises:
        Failure: the file has changed.
    """

    def __init__(self, path: Path, fact: FileFact):
        self._path, self._fact, self._stream = path, fact, open(path, "rb")  # noqa: SIM115 -- closed by __exit__
        self._sha, self._size = hashlib.sha256(), 0

    def __enter__(self) -> Verified:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._sha.update(data)
        self._size += len(data)
        if self._size >= self._fact.size or len(data) != size:
            seen = FileFact(size=self._size, sha256=self._sha.hexdigest())
            if seen != self._fact:
                raise Failure(
                    f"The file changed while it was uploaded: {describe_mismatch(seen, self._fact)}",
                    where=str(self._path),
                    remedy="let nothing write to the folder of a run, and run again",
                )
        return data


def receive(client: Any, source: dict[str, str], path: Path, fact: FileFact, address: str) -> bool:
    """Downloads an object that is not empty to a file, which gets its name only after its sha256 was verified.

    Returns:
        False if the object does not exist.

    Raises:
        Failure: the object is corrupted, or the disk is full.
    """
    part = path.with_name(f".{path.name}.{fact.sha256[:12]}{PARTIAL}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        begun = part.stat().st_size if part.exists() else 0
        seen = _append(client, source, part, fact, address)
        if seen and seen != fact and begun:  # the bytes that an earlier process left may be the wrong ones
            part.unlink()
            seen = _append(client, source, part, fact, address)
        if seen is None:
            part.unlink(missing_ok=True)
            return False
        if seen != fact:
            part.unlink()
            raise damaged(describe_mismatch(seen, fact), address)
        return rename_into_place(part, path)
    except OSError as error:
        raise disk_failure(error, path) from error


def read_object(client: Any, source: dict[str, str], window: range | None = None) -> tuple[bytes, int] | None:
    """The bytes of an object or of a range of it, and the size of the object; None if the object does not exist."""
    which = {} if window is None else {"Range": f"bytes={window.start}-{window.stop - 1}"}

    def read() -> tuple[bytes, int]:
        from botocore.exceptions import BotoCoreError

        answer = client.get_object(**source, **which)
        try:
            data = answer["Body"].read()
        except BotoCoreError as error:
            raise TruncatedBody(str(error)) from error
        return data, int(answer.get("ContentRange", "").rpartition("/")[2] or len(data))

    try:
        return _retry(read, lambda error: isinstance(error, TruncatedBody))
    except client.exceptions.NoSuchKey:
        return None


def _append(client: Any, source: dict[str, str], part: Path, fact: FileFact, address: str) -> FileFact | None:
    """Completes a partial file; returns its size and digest, or None if the object does not exist."""
    sha = hashlib.sha256()
    with open(part, "ab+") as stream:
        if stream.tell() > fact.size:
            stream.truncate(0)
        stream.seek(0)
        while chunk := stream.read(PART_SIZE):
            sha.update(chunk)
        begin = stream.tell()
        windows = (range(start, min(start + PART_SIZE, fact.size)) for start in range(begin, fact.size, PART_SIZE))
        with thread_pool(MAX_CONCURRENCY) as pool:
            for got in _in_order(pool, lambda window: _read_range(client, source, window, fact, address), windows):
                if got is None:
                    return None
                stream.write(got)
                sha.update(got)
        stream.flush()
        os.fsync(stream.fileno())
        return FileFact(size=stream.tell(), sha256=sha.hexdigest())


def _read_range(client: Any, source: dict[str, str], window: range, fact: FileFact, address: str) -> bytes | None:
    from botocore.exceptions import ClientError

    try:
        got = read_object(client, source, window)
    except ClientError as error:
        if code_of(error) != "InvalidRange":
            raise
        raise damaged(f"it is shorter than {fact.size} bytes", address) from error
    if got is None:
        return None
    data, size = got
    if size != fact.size or len(data) != len(window):
        raise damaged(f"{size} bytes, expected {fact.size}", address)
    return data


def _in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in the order of the items, with at most `MAX_CONCURRENCY` items in progress."""
    ahead: deque[Future[Result]] = deque()
    for item in items:
        ahead.append(pool.submit(work, item))
        if len(ahead) == MAX_CONCURRENCY:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _is_corrupted(error: Exception) -> bool:
    from botocore.exceptions import ClientError

    return isinstance(error, ClientError) and code_of(error) in _CORRUPTED


def _retry(work: Callable[[], Result], is_retryable: Callable[[Exception], bool]) -> Result:
    """Retries errors that `is_retryable` accepts; botocore itself retries requests without a response or with a 5xx."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return work()
        except Exception as error:
            if not is_retryable(error):
                raise
        time.sleep(random.uniform(0.1, 0.2) * 2**attempt)
    return work()
