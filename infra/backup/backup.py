"""Keeps dumps of the registry's database in object storage: `backup.py put FILE`, `backup.py get FILE [NAME]`, `list`.

It runs in the image of the registry, which has boto3. The environment gives BACKUP_URI (s3://bucket/prefix),
BACKUP_KEEP (how many dumps are kept), the usual AWS variables, and WIKIGPT_S3_PATH_STYLE as docs/storage.md describes
it. Older dumps are removed only after the new one was downloaded again and its digest compared.
"""

import hashlib
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.config import Config

# pg_dump writes these bytes at the start of an archive in its custom format.
MAGIC = b"PGDMP"
# components/shared/storage/s3.py has the same values, but is not in the image of the registry.
STYLES = {"": "auto", "1": "path", "0": "virtual"}


class Dumps:
    """The dumps under a prefix of a bucket. A dump is named by its time in UTC, so that names sort by age."""

    def __init__(self, uri: str):
        self.bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        self.prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        style = os.environ.get("WIKIGPT_S3_PATH_STYLE", "")
        if style not in STYLES:
            raise SystemExit(f"WIKIGPT_S3_PATH_STYLE is {style!r}: set it to 1 or 0, or leave it out")
        config = Config(retries={"mode": "standard", "total_max_attempts": 6}, s3={"addressing_style": STYLES[style]})
        self.client = boto3.client("s3", config=config)

    def names(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return sorted(key.removeprefix(self.prefix) for key in keys if key.endswith(".dump"))

    def put(self, path: Path) -> str:
        """Uploads a dump, downloads it again and compares the digests."""
        with open(path, "rb") as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise SystemExit(f"{path} is not what `pg_dump --format=custom` writes; nothing was uploaded")
        name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}.dump"
        digest = digest_of(path)
        extra = {"Metadata": {"sha256": digest}}
        self.client.upload_file(str(path), self.bucket, self.prefix + name, ExtraArgs=extra)
        if self._stored_digest(name) != digest:
            raise SystemExit(f"{name} differs from the uploaded file; older dumps were kept")
        return name

    def get(self, path: Path, name: str | None) -> str:
        """Downloads a dump, by default the newest, and compares it with its recorded digest."""
        name = name or next(reversed(self.names()), None)
        if name is None:
            raise SystemExit(f"There is no dump under s3://{self.bucket}/{self.prefix}")
        head = self.client.head_object(Bucket=self.bucket, Key=self.prefix + name)
        self.client.download_file(self.bucket, self.prefix + name, str(path))
        if digest_of(path) != head["Metadata"]["sha256"]:
            raise SystemExit(f"{name} is damaged: its sha256 differs from the recorded one; restore an older dump")
        return name

    def prune(self, keep: int) -> list[str]:
        """Removes all but the newest dumps."""
        old = self.names()[: -max(1, keep)]
        for name in old:
            self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)
        return old

    def _stored_digest(self, name: str) -> str:
        digest = hashlib.sha256()
        for part in self.client.get_object(Bucket=self.bucket, Key=self.prefix + name)["Body"].iter_chunks(1 << 20):
            digest.update(part)
        return digest.hexdigest()


def digest_of(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(arguments: list[str]) -> None:
    dumps = Dumps(os.environ["BACKUP_URI"])
    match arguments:
        case ["put", path]:
            name = dumps.put(Path(path))
            removed = dumps.prune(int(os.environ.get("BACKUP_KEEP", "30")))
            print(json.dumps({"kept": name, "bytes": Path(path).stat().st_size, "removed": removed}))
        case ["get", path, *name]:
            print(json.dumps({"fetched": dumps.get(Path(path), name[0] if name and name[0] else None)}))
        case ["list"]:
            print("\n".join(dumps.names()))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
