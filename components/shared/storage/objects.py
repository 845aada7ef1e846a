"""What the store asks of object storage, and what is said of an object that is not what it should be."""

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
    """An object as a listing shows it: key, size in bytes, time of the last change in seconds since the epoch."""

    key: str
    size: int
    changed: float


@dataclass(frozen=True)
class OldVersion:
    """What a bucket with versioning on keeps of an object that was replaced or deleted.

    Attributes:
        key: of the object.
        version: the id of the version; the mark of a deletion is one too, of size 0.
        size: in bytes.
        since: when it was replaced or deleted, in seconds since the epoch.
    """

    key: str
    version: str
    size: int
    since: float


class Objects(Protocol):
    """What the store asks of object storage. Keys have `/` between parts; every write is atomic.

    `put` with `if_absent` says whether these bytes were written by this call. False means that somebody has written or
    is writing the key: it may not be there to be read yet, and a repeated request may be what was refused, so that the
    bytes are ours all the same. `replace` and `delete` leave no older version where the bucket keeps versions and these
    credentials may delete them. `old_versions` gives what no reader gets, of each key from the oldest to the newest, so
    that deleting in this order uncovers none.

    Attributes:
        uri: the address of the prefix.
        max_concurrency: how many transfers are worth doing side by side.
        single_part_limit: files up to this many bytes travel in one piece; the storage itself cuts up larger ones.
        keeps_versions: whether an old version was left that these credentials may not delete.
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
    """What a stored object that is not what it should be means."""
    return Damaged(
        f"The stored object is damaged: {how}",
        where=address,
        remedy="delete that object and run again; what made it is made anew",
    )


def describe_mismatch(seen: FileFact, fact: FileFact) -> str:
    """How bytes differ from what they must be, in words."""
    return f"{seen.size} bytes with sha256 {seen.sha256[:12]}…, expected {fact.size} with {fact.sha256[:12]}…"


@contextmanager
def thread_pool(max_concurrency: int) -> Iterator[ThreadPoolExecutor]:
    """Threads for the time of the block; an exception, also that of a signal, leaves it without waiting for them."""
    pool = ThreadPoolExecutor(max_concurrency)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
