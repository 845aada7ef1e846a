"""Object storage behind the S3 protocol: AWS, SeaweedFS, MinIO, Ceph. The addressing and the credentials are boto3's.

`AWS_ENDPOINT_URL_S3`, `AWS_REGION` and the usual credential chain apply; `WIKIGPT_S3_PATH_STYLE=1` asks for path-style
addresses and `WIKIGPT_S3_CHECKSUMS=when_required` suits servers that store checksum trailers in the object.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.shared.failure import ExitCode, Failure
from components.shared.manifest import FileFact
from components.shared.store import check_digest

_TAKEN = {"PreconditionFailed", "ConditionalRequestConflict"}
_ABSENT = {"NoSuchKey", "404"}
_REFUSED = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "ExpiredToken"}


class S3Objects:
    """Objects under a prefix of a bucket."""

    def __init__(self, uri: str):
        import boto3
        from botocore.config import Config

        self.uri = uri.rstrip("/")
        self.bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix}/" if prefix else ""
        checksums = os.environ.get("WIKIGPT_S3_CHECKSUMS", "when_supported")
        self.client: Any = boto3.client(
            "s3",
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 6},
                connect_timeout=10,
                read_timeout=60,
                request_checksum_calculation=checksums,
                response_checksum_validation=checksums,
                s3={"addressing_style": "path" if os.environ.get("WIKIGPT_S3_PATH_STYLE") else "auto"},
            ),
        )

    def get(self, key: str) -> bytes | None:
        with self._plainly(key):
            try:
                return self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read()
            except self.client.exceptions.NoSuchKey:
                return None

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> bool:
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if if_absent else {}
        with self._plainly(key):
            try:
                self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)
            except ClientError as error:
                if error.response["Error"]["Code"] in _TAKEN:
                    return False
                raise
        return True

    def upload(self, key: str, path: Path, fact: FileFact) -> None:
        with self._plainly(key):
            self.client.upload_file(str(path), self.bucket, self.prefix + key)

    def download(self, key: str, path: Path, fact: FileFact) -> bool:
        if not self.exists(key):
            return False
        part = path.with_name(f".{path.name}.part")
        with self._plainly(key):
            self.client.download_file(self.bucket, self.prefix + key, str(part))
        check_digest(part, fact, f"{self.uri}/{key}")
        part.replace(path)
        return True

    def exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        with self._plainly(key):
            try:
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return False
                raise
        return True

    def keys(self, prefix: str) -> Iterator[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix + prefix)
        with self._plainly(prefix):
            for page in pages:
                for entry in page.get("Contents", []):
                    yield entry["Key"].removeprefix(self.prefix)

    def delete(self, key: str) -> None:
        with self._plainly(key):
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key)

    @contextmanager
    def _plainly(self, key: str) -> Iterator[None]:
        """Turns what botocore raises into one sentence."""
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"{self.uri}/{key} at {self.client.meta.endpoint_url}"
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "NoSuchBucket":
                raise Failure("The bucket does not exist", where=where, remedy="make it, or mend --store") from error
            if code in _REFUSED:
                raise Failure(
                    f"Object storage refused the credentials: {code}",
                    where=where,
                    remedy="mend AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the Secret that holds them",
                    exit_code=ExitCode.UNAUTHORISED,
                ) from error
            raise Failure(
                f"Object storage answered {code}", where=where, remedy="look at that service, then run again"
            ) from error
        except BotoCoreError as error:
            raise Failure(
                f"Object storage cannot be reached: {error}",
                where=where,
                remedy="start it, or mend --store and AWS_ENDPOINT_URL_S3",
                exit_code=ExitCode.UNREACHABLE,
            ) from error
