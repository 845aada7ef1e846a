"""Object storage with the S3 protocol: AWS, SeaweedFS, MinIO, Ceph. boto3 resolves endpoints and credentials.

`AWS_ENDPOINT_URL_S3`, `AWS_REGION`, `AWS_MAX_ATTEMPTS`, `AWS_RETRY_MODE` and the usual credential chain apply, and:

    WIKIGPT_S3_PATH_STYLE    1 selects https://host/bucket, 0 selects https://bucket.host; if unset, boto3 decides
    WIKIGPT_S3_CHECKSUMS     `when_required` for servers that store checksum trailers inside the object; every request
                             is then signed with the sha256 of its body instead
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from components.shared.base.address import names_bucket
from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.aws_variables import check_aws_variables
from components.shared.storage.files import FileFact, write_atomically
from components.shared.storage.objects import Entry, OldVersion, damaged
from components.shared.storage.s3_errors import code_of, misconfigured, translate_s3_errors, web_page
from components.shared.storage.s3_transfer import MAX_CONCURRENCY, PART_SIZE, TruncatedBody, read_object, receive, send

_PROBE = "conditional-write"
_ATTEMPTS = 6
_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict", "412"}
_ABSENT = {"NoSuchKey", "404"}
_CHECKSUMS = ("when_supported", "when_required")
_STYLES = {"": "auto", "1": "path", "0": "virtual"}


class S3Objects:
    """Objects under a prefix of a bucket. The constructor sends no request."""

    max_concurrency = MAX_CONCURRENCY
    single_part_limit = PART_SIZE

    def __init__(self, uri: str):
        self.uri = uri.rstrip("/")
        self.bucket, _, prefix = self.uri.removeprefix("s3:").removeprefix("//").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        if not self.bucket:
            raise _usage("The address names no bucket", uri, "give s3://bucket/prefix")
        if not names_bucket(self.uri):
            raise _usage(f"No bucket can be called {self.bucket[:80]!r}", uri, "give s3://bucket/prefix")
        self.client: Any = _client(self.uri)
        self.keeps_versions = False
        self._versioned: bool | None = None  # unknown before the first response to a write
        self._written: dict[str, str] = {}

    def check_conditional_writes(self) -> None:
        """Checks that the storage is writable and honours conditional writes: only one of two writers may succeed.

        Raises:
            Failure: it is not writable, or it ignores the condition, so one training could be registered twice.
        """
        if self.put(_PROBE, b"", if_absent=True) and self.put(_PROBE, b"", if_absent=True):
            raise Failure(
                "Object storage ignores the condition of a conditional write (If-None-Match), which the store needs",
                where=self._where(_PROBE),
                remedy="use a server that honours it: AWS, MinIO, Ceph, a current SeaweedFS; Ceph 16 honours it only in"
                " a bucket without versioning",
            )

    def get(self, key: str) -> bytes | None:
        from botocore.exceptions import FlexibleChecksumError

        with translate_s3_errors(self._where(key)):
            try:
                got = read_object(self.client, self._object(key))
            except TruncatedBody as error:
                if isinstance(error.__cause__, FlexibleChecksumError):
                    raise damaged(str(error), self._where(key)) from error
                raise _interrupted(error, self._where(key)) from error
        return None if got is None else got[0]

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        from botocore.exceptions import ClientError

        with translate_s3_errors(self._where(key)):
            try:
                self._put(key, data, {"IfNoneMatch": "*"} if if_absent else {})
            except ClientError as error:
                if code_of(error) in _TAKEN:
                    return False
                raise
        return True

    def replace(self, key: str, data: bytes) -> None:
        with translate_s3_errors(self._where(key)):
            before = None if self._versioned is False else self._written.get(key) or self._version(key)
            now = self._put(key, data, {})
        if now is None:
            return
        self._written[key] = now
        if before not in (None, now):
            self._free([OldVersion(key, before, 0, 0.0)])

    def upload(self, key: str, path: Path, fact: FileFact) -> None:
        from botocore.exceptions import ClientError

        with translate_s3_errors(self._where(key)):
            try:
                send(self.client, self._object(key), path, fact)
            except ClientError as error:
                # The response to CompleteMultipartUpload was lost, and the retry finds no such upload. Then the object
                # has the right size; before the upload the key had an object of another size or none.
                if code_of(error) != "NoSuchUpload" or self.size(key) != fact.size:
                    raise
        if (size := self.size(key)) != fact.size:
            self.delete(key)
            raise Failure(
                f"Object storage stored {size} bytes, but {fact.size} were sent",
                where=self._where(key),
                remedy="set WIKIGPT_S3_CHECKSUMS=when_required: some servers store the checksum inside the object",
            )

    def download(self, key: str, path: Path, fact: FileFact) -> bool:
        if fact.size == 0:
            return self.size(key) is not None and write_atomically(path, b"")
        with translate_s3_errors(self._where(key)):
            try:
                return receive(self.client, self._object(key), path, fact, self._where(key))
            except TruncatedBody as error:
                raise _interrupted(error, self._where(key)) from error

    def size(self, key: str) -> int | None:
        from botocore.exceptions import ClientError

        with translate_s3_errors(self._where(key)):
            try:
                return self.client.head_object(**self._object(key))["ContentLength"]
            except ClientError as error:
                if code_of(error) in _ABSENT:
                    return None
                raise

    def entries(self, prefix: str) -> Iterator[Entry]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        with translate_s3_errors(self._where(prefix)):
            for page in pages:
                for found in page.get("Contents", []):
                    key = found["Key"].removeprefix(self.prefix)
                    yield Entry(key, found["Size"], found["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        with translate_s3_errors(self._where(key)):
            marked = "VersionId" in self.client.delete_object(**self._object(key))
        if marked:
            self._free(old for old in self.old_versions(key) if old.key == key)

    def old_versions(self, prefix: str) -> Iterator[OldVersion]:
        listing = self.client.get_paginator("list_object_versions")
        with translate_s3_errors(self._where(prefix)):
            pages = listing.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
            kept = (found for page in pages for found in [*page.get("Versions", []), *page.get("DeleteMarkers", [])])
            # The versions of a key may span two pages, so they are collected before they are compared.
            by_key: dict[str, list[dict[str, Any]]] = {}
            for found in kept:
                by_key.setdefault(found["Key"], []).append(found)
        for key, versions in by_key.items():
            yield from _old(key.removeprefix(self.prefix), versions)

    def delete_version(self, old: OldVersion) -> None:
        with translate_s3_errors(self._where(old.key)):
            self.client.delete_object(**self._object(old.key), VersionId=old.version)

    def _free(self, versions: Iterable[OldVersion]) -> None:
        """Deletes old versions if the credentials permit it. A refusal does not fail the write that left them."""
        if self.keeps_versions:
            return
        try:
            for old in versions:
                self.delete_version(old)
        except Failure as failure:
            self.keeps_versions = failure.exit_code is ExitCode.UNAUTHORISED

    def _put(self, key: str, data: bytes, condition: dict[str, str]) -> str | None:
        """Writes an object and returns the id of its version, or None if the bucket keeps no versions."""
        answer = self.client.put_object(Body=data, **self._object(key), **condition)
        if "ETag" not in answer:
            raise web_page(self._where(key), answer["ResponseMetadata"]["HTTPStatusCode"])
        version = answer.get("VersionId")
        self._versioned = version not in (None, "null")
        return version

    def _version(self, key: str) -> str | None:
        """The id of the current version."""
        from botocore.exceptions import ClientError

        try:
            return self.client.head_object(**self._object(key)).get("VersionId")
        except ClientError as error:
            if code_of(error) in _ABSENT:
                return None
            raise

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.prefix + key}

    def _where(self, key: str) -> str:
        return f"{self.uri}/{key} at {self.client.meta.endpoint_url}"


def _old(key: str, versions: list[dict[str, Any]]) -> Iterator[OldVersion]:
    """The noncurrent versions of a key, oldest first, then its delete marker if that is the newest."""
    newest_first = sorted(versions, key=lambda found: (found["IsLatest"], found["LastModified"]), reverse=True)
    replaced_by = [newest_first[0], *newest_first]
    pairs = list(zip(newest_first, replaced_by, strict=False))
    if "Size" in newest_first[0]:
        pairs = pairs[1:]
    for found, newer in reversed(pairs):
        yield OldVersion(key, found["VersionId"], found.get("Size", 0), newer["LastModified"].timestamp())


def _client(uri: str) -> Any:
    import boto3
    from botocore.config import Config
    from botocore.session import get_session

    check_aws_variables()
    checksums = os.environ.get("WIKIGPT_S3_CHECKSUMS") or _CHECKSUMS[0]
    if checksums not in _CHECKSUMS:
        raise _usage(f"WIKIGPT_S3_CHECKSUMS is {checksums!r}", uri, f"set it to {' or '.join(_CHECKSUMS)}")
    style = os.environ.get("WIKIGPT_S3_PATH_STYLE", "")
    if style not in _STYLES:
        raise _usage(f"WIKIGPT_S3_PATH_STYLE is {style!r}", uri, "set it to 1 or 0, or leave it out")
    retries: dict[str, Any] = {} if os.environ.get("AWS_RETRY_MODE") else {"mode": "standard"}
    if "AWS_MAX_ATTEMPTS" not in os.environ:
        retries["total_max_attempts"] = _ATTEMPTS
    s3: dict[str, Any] = {"addressing_style": _STYLES[style]}
    if checksums == "when_required":
        s3["payload_signing_enabled"] = True
    config = Config(
        retries=retries,
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=2 * MAX_CONCURRENCY,
        request_checksum_calculation=checksums,
        response_checksum_validation=checksums,
        s3=s3,
    )
    try:
        with translate_s3_errors(uri):
            # A new session, because the default one caches the first credentials. boto3 ignores AWS_REGION.
            session = get_session()
            session.register_component("data_loader", _data_loader(session.get_config_variable("data_path")))
            return boto3.Session(botocore_session=session, region_name=os.environ.get("AWS_REGION")).client(
                "s3", config=config
            )
    except ValueError as error:
        raise misconfigured(error, uri) from error


@cache
def _data_loader(search_path: str | None) -> Any:
    """The service descriptions of botocore. A session with a loader of its own would parse megabytes of JSON anew."""
    from botocore.loaders import create_loader

    return create_loader(search_path)


def _usage(what: str, uri: str, remedy: str) -> Failure:
    return Failure(what, where=uri, remedy=remedy, exit_code=ExitCode.USAGE)


def _interrupted(error: Exception, where: str) -> Failure:
    return Failure(
        f"The connection to object storage was interrupted in every attempt: {error}",
        where=where,
        remedy="check the network and run again; the download continues after the bytes that were received",
        exit_code=ExitCode.UNREACHABLE,
    )
