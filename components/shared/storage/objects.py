"""The protocol that the store needs of object storage, its value types, and the failure for a corrupted object."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from components.shared.base.failure import Damaged
from components.shared.storage.files import FileFact


@dataclass(frozen=True)
class Entry:
    """An object in a listing: its key, its size in bytes, and its last change in seconds since the epoch."""

    key: str
    size: int
    changed: float


@dataclass(frozen=True)
class OldVersion:
    """A noncurrent version of an object in a bucket with versioning, or its delete marker.

    Attributes:
        key: the key of the object.
        version: the id of the version.
        size: bytes; 0 for a delete marker.
        since: the time at which the version became noncurrent, in seconds since the epoch.
    """

    key: str
    version: str
    size: int
    since: float


class Objects(Protocol):
    """The operations that the store needs of object storage. Keys have `/` between parts; every write is atomic.

    `put` with `if_absent` returns whether this call wrote the bytes. False means that another writer has written or is
    writing the key, so a reader may not see the object yet. A retried request may also be refused because its first
    attempt succeeded, and then the stored bytes are those of this call. `replace` and `delete` leave no noncurrent
    version if these credentials may delete versions. `old_versions` yields the noncurrent versions of each key from the
    oldest to the newest, so that deleting in this order never makes an old version current again.

    Attributes:
        uri: the address of the prefix.
        max_concurrency: the number of transfers that are worth running in parallel.
        single_part_limit: a file up to this many bytes is sent in one request; a larger one is sent in parts.
        keeps_versions: whether a noncurrent version was left because these credentials may not delete it.
    """

    uri: str
    max_concurrency: int
    single_part_limit: int
    keeps_versions: bool

    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool: ...
    def replace(self, key: str, data: bytes) -> None: ...
    def upload(self, key: str, path: Path, fact: FileFact) -> None: ...
    def download(self, key: str, path: Path, fact: FileFact) -> bool: ...
    def size(self, key: str) -> int | None: ...
    def entries(self, prefix: str) -> Iterator[Entry]: ...
    def delete(self, key: str) -> None: ...
    def old_versions(self, prefix: str) -> Iterator[OldVersion]: ...
    def delete_version(self, old: OldVersion) -> None: ...


def damaged(how: str, address: str) -> Damaged:
    """The failure for a corrupted object."""
    return Damaged(
        f"The stored object is damaged: {how}",
        where=address,
        remedy="delete that object and run again; the run makes it again",
    )


def describe_mismatch(seen: FileFact, fact: FileFact) -> str:
    """How the bytes that were read differ from the expected ones, in words."""
    return f"{seen.size} bytes with sha256 {seen.sha256[:12]}…, expected {fact.size} with {fact.sha256[:12]}…"


@contextmanager
def thread_pool(max_concurrency: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool for the block. An exception, also one of a signal handler, does not wait for its threads."""
    pool = ThreadPoolExecutor(max_concurrency)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
