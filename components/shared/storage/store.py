"""The store: content-addressed blobs under one prefix of object storage, and small manifests that name them.

    blobs/<aa>/<sha256>              bytes, written once, never changed
    manifests/<kind>/<name>.json     written after its blobs, conditionally: the first writer wins
    claims/<name>.json               small records that exactly one writer owns

No manifest means that the thing does not exist, so a writer that dies leaves nothing that anybody reads.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from components.shared.base.address import is_bucket
from components.shared.base.failure import Damaged, ExitCode, Failure
from components.shared.storage.files import FileFact, file_fact, write_atomically
from components.shared.storage.local import LocalObjects
from components.shared.storage.manifest import MANIFEST, Manifest, read_manifest
from components.shared.storage.objects import Entry, Objects, OldVersion, damaged, thread_pool
from components.shared.storage.s3 import S3Objects

_DAY = 86400.0
_JSON = ".json"
_FOLDERS = ("blobs/", "manifests/", "claims/", "corpora/", "pretrained/")
# Seconds between attempts at a write that another one stands in the way of.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)


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

        def upload(file: str) -> bool:
            key, fact = _blob_key(manifest.files[file]), manifest.files[file]
            if self.objects.size(key) != fact.size:
                self.objects.upload(key, folder / file, fact)
            return True

        self._every(upload, manifest)
        key = _manifest_key(kind, name)
        if replace:
            self.objects.replace(key, manifest.to_json())
            return manifest
        standing = self._parse(self._create(key, manifest.to_json()), key)
        if standing.files == manifest.files or self.find(kind, name):
            return standing
        # It names what is gone, so nobody can have it. Of two who replace it at once, the last one's counts for both.
        self.objects.replace(key, manifest.to_json())
        return self.manifest(kind, name) or manifest

    def manifest(self, kind: str, name: str) -> Manifest | None:
        """The manifest under a name, whether or not its blobs are there.

        Raises:
            Damaged: it cannot be read.
        """
        key = _manifest_key(kind, name)
        data = self.objects.get(key)
        return None if data is None else self._parse(data, key)

    def peek(self, kind: str, name: str) -> Manifest | None:
        """The same, and None also where it is damaged: for who can do without."""
        try:
            return self.manifest(kind, name)
        except Damaged:
            return None

    def find(self, kind: str, name: str) -> Manifest | None:
        """The manifest under a name, if all of its blobs are there, whole by their size."""
        manifest = self.manifest(kind, name)
        if manifest is None:
            return None
        with thread_pool(self.objects.max_concurrency) as pool:
            sizes = pool.map(self.objects.size, map(_blob_key, manifest.files.values()))
            there = all(size == fact.size for size, fact in zip(sizes, manifest.files.values(), strict=True))
        return manifest if there else None

    def fetch(self, kind: str, name: str, folder: Path) -> Manifest | None:
        """Downloads a published folder; every file is compared with its digest, the manifest is written last.

        Files that are there already are kept; one that came in part before goes on where it ended. A folder has one
        writer at a time.

        Returns:
            The manifest, or None where the name or one of its blobs does not exist.

        Raises:
            Damaged: a blob or the manifest is.
        """
        manifest = self.manifest(kind, name)
        if manifest is None:
            return None

        def download(file: str) -> bool:
            target, fact = folder / file, manifest.files[file]
            if target.is_file() and target.stat().st_size == fact.size and file_fact(target) == fact:
                return True
            return self.objects.download(_blob_key(fact), target, fact)

        if not self._every(download, manifest):
            return None
        write_atomically(folder / MANIFEST, manifest.to_json())
        return manifest

    def names(self, kind: str, prefix: str = "") -> list[str]:
        """Names of the published folders of a kind, sorted."""
        return [entry.key for entry in self.folders(kind, prefix)]

    def folders(self, kind: str, prefix: str = "") -> list[Entry]:
        """The manifests of the published folders of a kind, by name: the keys of the entries are the names."""
        return self._named(f"manifests/{kind}/", prefix)

    def forget(self, kind: str, name: str) -> None:
        """Removes a manifest; its blobs stay until `unused` finds them."""
        self.objects.delete(_manifest_key(kind, name))

    def remove(self, kind: str, name: str) -> None:
        """Removes a folder and its blobs.

        Only for folders whose bytes no other can have: a checkpoint names its training and its step in every file.
        """
        doomed = self.peek(kind, name)
        self.forget(kind, name)
        for fact in doomed.files.values() if doomed else ():
            self.objects.delete(_blob_key(fact))

    def unused(self, *, spare: float = _DAY, without: Iterable[tuple[str, str]] = ()) -> list[Entry]:
        """Blobs that no manifest names and nothing has touched for `spare` seconds, the largest first.

        Somebody who publishes right now has blobs without a manifest: hence the time. Folders in `without`, each a kind
        and a name, count as gone.
        """
        gone = {_manifest_key(kind, name) for kind, name in without}
        used = {
            _blob_key(fact)
            for entry in self.objects.entries("manifests/")
            if entry.key not in gone
            if (data := self.objects.get(entry.key)) and entry.key.endswith(".json")
            for fact in self._parse(data, entry.key).files.values()
        }
        before = time.time() - spare
        old = (entry for entry in self.objects.entries("blobs/") if entry.changed < before)
        return sorted((entry for entry in old if entry.key not in used), key=lambda entry: -entry.size)

    def discard(self, keys: Iterable[str]) -> None:
        """Removes blobs that `unused` found."""
        for key in keys:
            self.objects.delete(key)

    def old_versions(self, *, spare: float = _DAY) -> list[OldVersion]:
        """What a bucket with versioning on keeps of this store's objects that were replaced or deleted.

        Args:
            spare: seconds for which they are left alone.

        Raises:
            Failure: these credentials may not list versions, or the server knows none.
        """
        before = time.time() - spare
        return [old for folder in _FOLDERS for old in self.objects.old_versions(folder) if old.since < before]

    def free(self, versions: list[OldVersion]) -> None:
        """Removes what `old_versions` found, in that order.

        Raises:
            Failure: these credentials may not delete versions.
        """
        for old in versions:
            self.objects.delete_version(old)

    @property
    def keeps_versions(self) -> bool:
        """Whether the bucket keeps versions that these credentials may not delete, as far as this process has seen."""
        return self.objects.keeps_versions

    def upload_files(self, prefix: str, files: Iterable[Path]) -> str:
        """Stores files as they are, for steps that read an address without a manifest.

        Args:
            prefix: below the address of the store; named by what is in the files, so that it never gets others.
            files: a file of the same name and size is taken for the same.

        Returns:
            The address that they are under.
        """
        for path in files:
            key, fact = f"{prefix}/{path.name}", file_fact(path)
            if self.objects.size(key) != fact.size:
                self.objects.upload(key, path, fact)
        return f"{self.uri}/{prefix}"

    def claim(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        """Makes a record exactly once.

        Returns:
            The record that stands: ours if we were first, else that of the first. A storage that loses the answer to
            a write makes a winner look like a loser, so compare the records, and put something of your own into yours.
        """
        ours = _to_json(record)
        standing = self._create(_claim_key(name), ours)
        return record if standing == ours else json.loads(standing)

    def claimed(self, name: str) -> dict[str, Any] | None:
        """The record of a claim, or None."""
        data = self.objects.get(_claim_key(name))
        return None if data is None else json.loads(data)

    def put_record(self, name: str, record: dict[str, Any]) -> None:
        """Writes a record that only the caller writes, over the one before.

        Made to be called often: it leaves no old version in a bucket that keeps them, if the credentials may delete
        versions (one, where another process wrote the record before).
        """
        self.objects.replace(_claim_key(name), _to_json(record))

    def release(self, name: str) -> None:
        """Removes a claim."""
        self.objects.delete(_claim_key(name))

    def claims(self, prefix: str = "") -> list[str]:
        """Names of the claims under a prefix, sorted."""
        return [entry.key for entry in self.records(prefix)]

    def records(self, prefix: str = "") -> list[Entry]:
        """The claims under a prefix, by name: the keys of the entries are the names."""
        return self._named("claims/", prefix)

    def _every(self, transfer: Callable[[str], bool], manifest: Manifest) -> bool:
        """Small files side by side in threads, large ones one after another here; whether all of them went."""
        small = [name for name, fact in manifest.files.items() if fact.size <= self.objects.single_part_limit]
        large = [name for name, fact in manifest.files.items() if fact.size > self.objects.single_part_limit]
        with thread_pool(self.objects.max_concurrency) as pool:
            went = pool.map(transfer, small)
            return all([*map(transfer, large), *went])

    def _named(self, folder: str, prefix: str) -> list[Entry]:
        named = [
            Entry(entry.key[len(folder) : -len(_JSON)], entry.size, entry.changed)
            for entry in self.objects.entries(folder + prefix)
            if entry.key.endswith(_JSON)
        ]
        return sorted(named, key=lambda entry: entry.key)

    def _create(self, key: str, data: bytes) -> bytes:
        """Writes an object exactly once.

        Returns:
            The bytes under the key: these, or those of whoever was first.

        Raises:
            Failure: somebody writes it, and it never appears.
        """
        for pause in _PAUSES:
            if self.objects.put(key, data, if_absent=True):
                return data
            if (standing := self.objects.get(key)) is not None:
                return standing
            time.sleep(pause)
        raise Failure(
            "Object storage refuses a write because somebody writes the same object, and that object never appears",
            where=f"{self.uri}/{key}",
            remedy="look at that service, then run again",
            exit_code=ExitCode.UNREACHABLE,
        )

    def _parse(self, data: bytes, key: str) -> Manifest:
        try:
            return Manifest.from_json(data)
        except ValueError as error:
            raise damaged(str(error), f"{self.uri}/{key}") from error


def open_store(uri: str) -> Store:
    """The store at a folder or an `s3://bucket/prefix` address.

    Raises:
        Failure: the scheme is none of these, or the storage cannot be used.
    """
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", uri)
    if not scheme:
        return Store(LocalObjects(Path(uri).expanduser()))
    if is_bucket(uri):
        objects = S3Objects(uri)
        objects.check_conditional_writes()
        return Store(objects)
    raise Failure(
        f"A store cannot be kept at a {scheme[0]} address",
        where=uri,
        remedy="give a folder or s3://bucket/prefix",
        exit_code=ExitCode.USAGE,
    )


def _blob_key(fact: FileFact) -> str:
    return f"blobs/{fact.sha256[:2]}/{fact.sha256}"


def _manifest_key(kind: str, name: str) -> str:
    return f"manifests/{kind}/{name}{_JSON}"


def _claim_key(name: str) -> str:
    return f"claims/{name}{_JSON}"


def _to_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
