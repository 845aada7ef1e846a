"""The store: content-addressed blobs under one prefix of object storage, and small manifests that reference them.

    blobs/<aa>/<sha256>              bytes, written once and never changed
    manifests/<kind>/<name>.json     written after its blobs by a conditional write: the first writer wins
    claims/<name>.json               small records, each owned by exactly one writer

A folder without a manifest does not exist for readers, so a writer that dies leaves nothing that they could read.
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
# Seconds between attempts at a write that conflicts with another one.
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0)


class Store:
    """Published folders and claims on top of `Objects`."""

    def __init__(self, objects: Objects):
        self.objects = objects

    @property
    def uri(self) -> str:
        return self.objects.uri

    def address(self, kind: str, name: str) -> str:
        """The address of the manifest of a published folder, for people and lineage."""
        return f"{self.uri}/{_manifest_key(kind, name)}"

    def publish(self, folder: Path, kind: str, name: str, *, replace: bool = False) -> Manifest:
        """Uploads a folder that has a manifest: blobs first, manifest last.

        Args:
            folder: a folder written by `write_manifest`.
            kind: the kind of its manifest.
            name: the name under which `fetch` finds it; it may contain `/`.
            replace: overwrite an earlier manifest of that name instead of keeping the first one.

        Returns:
            The manifest that is now under the name: this one, or that of the first writer.
        """
        manifest = read_manifest(folder, kind)

        def upload(file: str) -> bool:
            key, fact = _blob_key(manifest.files[file]), manifest.files[file]
            if self.objects.size(key) != fact.size:
                self.objects.upload(key, folder / file, fact)
            return True

        self._transfer_all(upload, manifest)
        key = _manifest_key(kind, name)
        if replace:
            self.objects.replace(key, manifest.to_json())
            return manifest
        current = self._parse(self._create(key, manifest.to_json()), key)
        if current.files == manifest.files or self.find(kind, name):
            return current
        # Its blobs are gone, so it cannot be fetched. If two writers replace it at once, the last one wins for both.
        self.objects.replace(key, manifest.to_json())
        return self.manifest(kind, name) or manifest

    def manifest(self, kind: str, name: str) -> Manifest | None:
        """The manifest under a name, whether or not its blobs exist.

        Raises:
            Damaged: the manifest is corrupted.
        """
        key = _manifest_key(kind, name)
        data = self.objects.get(key)
        return None if data is None else self._parse(data, key)

    def peek(self, kind: str, name: str) -> Manifest | None:
        """The manifest under a name, or None if it does not exist or is corrupted."""
        try:
            return self.manifest(kind, name)
        except Damaged:
            return None

    def find(self, kind: str, name: str) -> Manifest | None:
        """The manifest under a name if all of its blobs exist with the right size, else None."""
        manifest = self.manifest(kind, name)
        if manifest is None:
            return None
        with thread_pool(self.objects.max_concurrency) as pool:
            sizes = pool.map(self.objects.size, map(_blob_key, manifest.files.values()))
            complete = all(size == fact.size for size, fact in zip(sizes, manifest.files.values(), strict=True))
        return manifest if complete else None

    def fetch(self, kind: str, name: str, folder: Path) -> Manifest | None:
        """Downloads a published folder; every file is verified by its digest and the manifest is written last.

        Files that exist with the right digest are kept, and a partial download is resumed. Only one writer may use a
        folder at a time.

        Returns:
            The manifest, or None if the name or one of its blobs does not exist.

        Raises:
            Damaged: a blob or the manifest is corrupted.
        """
        manifest = self.manifest(kind, name)
        if manifest is None:
            return None

        def download(file: str) -> bool:
            target, fact = folder / file, manifest.files[file]
            if target.is_file() and target.stat().st_size == fact.size and file_fact(target) == fact:
                return True
            return self.objects.download(_blob_key(fact), target, fact)

        if not self._transfer_all(download, manifest):
            return None
        write_atomically(folder / MANIFEST, manifest.to_json())
        return manifest

    def names(self, kind: str, prefix: str = "") -> list[str]:
        """Names of the published folders of a kind, sorted."""
        return [entry.key for entry in self.folders(kind, prefix)]

    def folders(self, kind: str, prefix: str = "") -> list[Entry]:
        """Entries for the manifests of the published folders of a kind; their keys are the names of the folders."""
        return self._named(f"manifests/{kind}/", prefix)

    def forget(self, kind: str, name: str) -> None:
        """Deletes a manifest; its blobs are kept until `unused` lists them."""
        self.objects.delete(_manifest_key(kind, name))

    def remove(self, kind: str, name: str) -> None:
        """Deletes a folder and its blobs.

        Use it only for folders that do not share a blob with another one, such as checkpoints: each of their files
        contains the key of the training and the step.
        """
        doomed = self.peek(kind, name)
        self.forget(kind, name)
        for fact in doomed.files.values() if doomed else ():
            self.objects.delete(_blob_key(fact))

    def unused(self, *, spare: float = _DAY, without: Iterable[tuple[str, str]] = ()) -> list[Entry]:
        """Blobs that no manifest references and that are older than `spare` seconds, the largest first.

        The age matters because a folder that is being published has blobs and no manifest yet. Folders in `without`,
        each given by kind and name, count as deleted.
        """
        deleted = {_manifest_key(kind, name) for kind, name in without}
        used = {
            _blob_key(fact)
            for entry in self.objects.entries("manifests/")
            if entry.key not in deleted
            if (data := self.objects.get(entry.key)) and entry.key.endswith(".json")
            for fact in self._parse(data, entry.key).files.values()
        }
        before = time.time() - spare
        old = (entry for entry in self.objects.entries("blobs/") if entry.changed < before)
        return sorted((entry for entry in old if entry.key not in used), key=lambda entry: -entry.size)

    def discard(self, keys: Iterable[str]) -> None:
        """Deletes blobs that `unused` listed."""
        for key in keys:
            self.objects.delete(key)

    def old_versions(self, *, spare: float = _DAY) -> list[OldVersion]:
        """The noncurrent versions of this store's objects in a bucket with versioning.

        Args:
            spare: the least age in seconds.

        Raises:
            Failure: these credentials may not list versions, or the server does not support versions.
        """
        before = time.time() - spare
        return [old for folder in _FOLDERS for old in self.objects.old_versions(folder) if old.since < before]

    def free(self, versions: list[OldVersion]) -> None:
        """Deletes the versions that `old_versions` listed, in that order.

        Raises:
            Failure: these credentials may not delete versions.
        """
        for old in versions:
            self.objects.delete_version(old)

    @property
    def keeps_versions(self) -> bool:
        """Whether this process left noncurrent versions because the credentials may not delete them."""
        return self.objects.keeps_versions

    def upload_files(self, prefix: str, files: Iterable[Path]) -> str:
        """Uploads files under a prefix without a manifest, for steps that read from a plain address.

        Args:
            prefix: the prefix below the store; it contains a digest of the files, so it never receives other files.
            files: the files; one that exists with the same name and size is not uploaded again.

        Returns:
            The address of the prefix.
        """
        for path in files:
            key, fact = f"{prefix}/{path.name}", file_fact(path)
            if self.objects.size(key) != fact.size:
                self.objects.upload(key, path, fact)
        return f"{self.uri}/{prefix}"

    def claim(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        """Creates a record exactly once.

        Returns:
            The record of the first writer. If the response to a write is lost, the winner sees its own record as that
            of another, so compare the records and make yours unique.
        """
        ours = _to_json(record)
        current = self._create(_claim_key(name), ours)
        return record if current == ours else json.loads(current)

    def claimed(self, name: str) -> dict[str, Any] | None:
        """The record of a claim, or None if there is none."""
        data = self.objects.get(_claim_key(name))
        return None if data is None else json.loads(data)

    def put_record(self, name: str, record: dict[str, Any]) -> None:
        """Writes or overwrites a record that only the caller writes.

        It may be called often: it leaves no noncurrent version if the credentials may delete versions, or one if
        another process wrote the record before.
        """
        self.objects.replace(_claim_key(name), _to_json(record))

    def release(self, name: str) -> None:
        """Deletes a claim."""
        self.objects.delete(_claim_key(name))

    def claims(self, prefix: str = "") -> list[str]:
        """Names of the claims under a prefix, sorted."""
        return [entry.key for entry in self.records(prefix)]

    def records(self, prefix: str = "") -> list[Entry]:
        """Entries for the claims under a prefix; the key of an entry is the name of the claim."""
        return self._named("claims/", prefix)

    def _transfer_all(self, transfer: Callable[[str], bool], manifest: Manifest) -> bool:
        """Transfers small files in parallel and large ones one after another; returns whether all exist."""
        small = [name for name, fact in manifest.files.items() if fact.size <= self.objects.single_part_limit]
        large = [name for name, fact in manifest.files.items() if fact.size > self.objects.single_part_limit]
        with thread_pool(self.objects.max_concurrency) as pool:
            done = pool.map(transfer, small)
            return all([*map(transfer, large), *done])

    def _named(self, folder: str, prefix: str) -> list[Entry]:
        named = [
            Entry(entry.key[len(folder) : -len(_JSON)], entry.size, entry.changed)
            for entry in self.objects.entries(folder + prefix)
            if entry.key.endswith(_JSON)
        ]
        return sorted(named, key=lambda entry: entry.key)

    def _create(self, key: str, data: bytes) -> bytes:
        """Creates an object exactly once.

        Returns:
            The bytes under the key: these, or those of the first writer.

        Raises:
            Failure: the storage reports another writer, but the object never appears.
        """
        for pause in _PAUSES:
            if self.objects.put(key, data, if_absent=True):
                return data
            if (current := self.objects.get(key)) is not None:
                return current
            time.sleep(pause)
        raise Failure(
            "Object storage refuses a write in favour of another writer, but that object never appears",
            where=f"{self.uri}/{key}",
            remedy="check that service, then run again",
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
        Failure: the scheme is another one, or the storage cannot be used.
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
