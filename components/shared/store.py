"""The store: content-addressed blobs under one prefix of object storage, and small manifests that name them.

    blobs/<aa>/<sha256>              bytes, written once, never changed
    manifests/<kind>/<name>.json     written after its blobs, conditionally: the first writer wins
    claims/<name>.json               small records that exactly one writer owns

No manifest means that the thing does not exist, so a writer that dies leaves nothing that anybody reads.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from components.shared.failure import ExitCode, Failure
from components.shared.manifest import FileFact, Manifest, file_fact, read_manifest, write_atomically


class Objects(Protocol):
    """What the store asks of object storage. Keys have `/` between parts; every write is atomic."""

    uri: str

    def get(self, key: str) -> bytes | None: ...
    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool: ...
    def upload(self, key: str, path: Path, fact: FileFact) -> None: ...
    def download(self, key: str, path: Path, fact: FileFact) -> bool: ...
    def exists(self, key: str) -> bool: ...
    def keys(self, prefix: str) -> Iterator[str]: ...
    def delete(self, key: str) -> None: ...


class Store:
    """Folders and claims on top of `Objects`."""

    def __init__(self, objects: Objects):
        self.objects = objects

    @property
    def uri(self) -> str:
        return self.objects.uri

    def address(self, kind: str, name: str) -> str:
        """Where the manifest of a published folder stands, for people and lineage."""
        return f"{self.uri}/{_manifest_key(kind, name)}"

    def publish(self, folder: Path, kind: str, name: str, *, replace: bool = False) -> Manifest:
        """Uploads a folder that has a manifest: blobs first, manifest last.

        Args:
            folder: a folder written by `write_manifest`.
            kind: the kind of its manifest.
            name: under which it is found again; may hold `/`.
            replace: overwrite an earlier manifest of that name instead of leaving the first one in place.

        Returns:
            The manifest that stands under the name now: ours, or that of whoever was first.
        """
        manifest = read_manifest(folder, kind)
        for file, fact in manifest.files.items():
            if not self.objects.exists(_blob_key(fact)):
                self.objects.upload(_blob_key(fact), folder / file, fact)
        won = self.objects.put(_manifest_key(kind, name), manifest.to_json(), if_absent=not replace)
        return manifest if won else self._manifest(kind, name) or manifest

    def find(self, kind: str, name: str) -> Manifest | None:
        """The manifest under a name, if all of its blobs are there."""
        manifest = self._manifest(kind, name)
        if manifest and all(self.objects.exists(_blob_key(fact)) for fact in manifest.files.values()):
            return manifest
        return None

    def fetch(self, kind: str, name: str, folder: Path) -> Manifest | None:
        """Downloads a published folder; every file is compared with its digest, the manifest is written last.

        Returns:
            The manifest, or None where the name or one of its blobs does not exist.

        Raises:
            Failure: a blob is damaged.
        """
        manifest = self._manifest(kind, name)
        if manifest is None:
            return None
        for file, fact in manifest.files.items():
            target = folder / file
            if target.is_file() and file_fact(target) == fact:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            if not self.objects.download(_blob_key(fact), target, fact):
                return None
        write_atomically(folder / "manifest.json", manifest.to_json())
        return manifest

    def names(self, kind: str, prefix: str = "") -> list[str]:
        """Names of the published folders of a kind, sorted."""
        start = f"manifests/{kind}/"
        keys = self.objects.keys(start + prefix)
        return sorted(key[len(start) : -len(".json")] for key in keys if key.endswith(".json"))

    def forget(self, kind: str, name: str) -> None:
        """Removes a manifest; its blobs stay until `gc` finds them unused."""
        self.objects.delete(_manifest_key(kind, name))

    def claim(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        """Makes a record exactly once.

        Returns:
            The record that stands: ours if we were first, else that of the first.
        """
        if self.objects.put(_claim_key(name), _to_json(record), if_absent=True):
            return record
        return self.claimed(name) or record

    def claimed(self, name: str) -> dict[str, Any] | None:
        """The record of a claim, or None."""
        data = self.objects.get(_claim_key(name))
        return None if data is None else json.loads(data)

    def renew(self, name: str, record: dict[str, Any]) -> None:
        """Overwrites a claim that the caller owns, or that is void."""
        self.objects.put(_claim_key(name), _to_json(record))

    def release(self, name: str) -> None:
        """Removes a claim."""
        self.objects.delete(_claim_key(name))

    def claims(self, prefix: str = "") -> list[str]:
        """Names of the claims under a prefix, sorted."""
        return sorted(key[len("claims/") : -len(".json")] for key in self.objects.keys(f"claims/{prefix}"))

    def _manifest(self, kind: str, name: str) -> Manifest | None:
        data = self.objects.get(_manifest_key(kind, name))
        return None if data is None else Manifest.from_json(data)


class LocalObjects:
    """Object storage in a folder, for a laptop and for tests."""

    def __init__(self, root: Path):
        self.root = root.resolve()
        self.uri = str(self.root)

    def get(self, key: str) -> bytes | None:
        try:
            return (self.root / key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        path = self.root / key
        if not if_absent:
            write_atomically(path, data)
            return True
        if path.exists():
            return False
        with _beside(path) as temporary:
            write_atomically(temporary, data)
            return _link(temporary, path)

    def upload(self, key: str, path: Path, fact: FileFact) -> None:
        with open(path, "rb") as source:
            write_atomically(self.root / key, lambda stream: shutil.copyfileobj(source, stream))

    def download(self, key: str, path: Path, fact: FileFact) -> bool:
        if not (self.root / key).is_file():
            return False
        with open(self.root / key, "rb") as source:
            write_atomically(path, lambda stream: shutil.copyfileobj(source, stream))
        check_digest(path, fact, f"{self.uri}/{key}")
        return True

    def exists(self, key: str) -> bool:
        return (self.root / key).is_file()

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self.root / prefix.rpartition("/")[0]
        for path in folder.rglob("*"):
            key = path.relative_to(self.root).as_posix()
            if path.is_file() and key.startswith(prefix) and not path.name.startswith("."):
                yield key

    def delete(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)


def open_store(uri: str) -> Store:
    """The store at a folder or an `s3://bucket/prefix` address.

    Raises:
        Failure: the scheme is none of these, or the storage cannot be used.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return Store(LocalObjects(Path(uri).expanduser()))
    if scheme == "s3":
        from components.shared.store_s3 import S3Objects

        return Store(S3Objects(uri))
    raise Failure(
        f"A store cannot be kept at a {scheme}:// address",
        where=uri,
        remedy="give a folder or s3://bucket/prefix",
        exit_code=ExitCode.USAGE,
    )


def check_digest(path: Path, fact: FileFact, address: str) -> None:
    """Compares a downloaded file with what it must be and removes it where it differs.

    Raises:
        Failure: it differs.
    """
    seen = file_fact(path)
    if seen != fact:
        path.unlink()
        raise Failure(
            f"The stored object is damaged: {seen.size} bytes with sha256 {seen.sha256[:12]}…,"
            f" expected {fact.size} with {fact.sha256[:12]}…",
            where=address,
            remedy="delete that object and run again; what made it is made anew",
        )


def _blob_key(fact: FileFact) -> str:
    return f"blobs/{fact.sha256[:2]}/{fact.sha256}"


def _manifest_key(kind: str, name: str) -> str:
    return f"manifests/{kind}/{name}.json"


def _claim_key(name: str) -> str:
    return f"claims/{name}.json"


def _to_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".claim-", dir=path.parent) as folder:
        yield Path(folder) / path.name


def _link(source: Path, target: Path) -> bool:
    """Gives a complete file its name unless the name is taken: the atomic `put if absent` of a file system."""
    try:
        target.hardlink_to(source)
    except FileExistsError:
        return False
    return True
