"""Object storage in a local folder, for a laptop and for tests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from components.shared.base.failure import Failure
from components.shared.storage.files import FileFact, write_atomically
from components.shared.storage.objects import Entry, OldVersion, damaged, describe_mismatch

_CHUNK = 1 << 20


class LocalObjects:
    """Stores objects as files below a folder. The file system must support hard links, for writes with `if_absent`."""

    max_concurrency = 1
    single_part_limit = 0
    keeps_versions = False

    def __init__(self, root: Path):
        self.root = root.resolve()
        self.uri = str(self.root)

    def get(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error, self.root / key) from error

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        return write_atomically(self.root / key, data, if_absent=if_absent)

    def replace(self, key: str, data: bytes) -> None:
        self.put(key, data)

    def upload(self, key: str, path: Path, fact: FileFact) -> None:
        def copy(target: IO[bytes]) -> None:
            if difference := _copy(path, target, fact):
                raise Failure(
                    f"The file changed while it was uploaded: {difference}",
                    where=str(path),
                    remedy="let nothing write to the folder of a run, and run again",
                )

        write_atomically(self.root / key, copy)

    def download(self, key: str, path: Path, fact: FileFact) -> bool:
        if self.size(key) is None:
            return False

        def copy(target: IO[bytes]) -> None:
            if difference := _copy(self.root / key, target, fact):
                raise damaged(difference, f"{self.uri}/{key}")

        return write_atomically(path, copy)

    def size(self, key: str) -> int | None:
        try:
            return (self.root / key).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def entries(self, prefix: str) -> Iterator[Entry]:
        for folder, _, names in os.walk(self.root / prefix.rpartition("/")[0]):
            for name in names:
                path = Path(folder) / name
                key = path.relative_to(self.root).as_posix()
                try:
                    fact = path.stat()
                except FileNotFoundError:  # deleted since it was listed
                    continue
                if key.startswith(prefix):
                    yield Entry(key, fact.st_size, fact.st_mtime)

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        return iter(())

    def delete_version(self, old: OldVersion) -> None:
        raise NotImplementedError("a folder keeps no versions")


def _copy(source: Path, target: IO[bytes], fact: FileFact) -> str:
    """Copies a file and returns how its bytes differ from the expected ones, or an empty text."""
    sha, size = hashlib.sha256(), 0
    with open(source, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            target.write(chunk)
            sha.update(chunk)
            size += len(chunk)
    seen = FileFact(size=size, sha256=sha.hexdigest())
    return "" if seen == fact else describe_mismatch(seen, fact)


def _unreadable(error: OSError, path: Path) -> Failure:
    return Failure(
        f"Could not read: {error.strerror or error}", where=str(path), remedy="choose a store that this user may read"
    )
