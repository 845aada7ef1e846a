"""Downloads objects outside a store to files, in bounded memory, by boto3's managed transfer."""

from __future__ import annotations

from pathlib import Path

from components.shared.base.failure import ExitCode, Failure
from components.shared.storage.files import disk_failure
from components.shared.storage.s3 import S3Objects
from components.shared.storage.s3_errors import code_of, translate_s3_errors

_MAX_CONCURRENCY = 4
# The most chunks of 256 KiB that are read and not yet written. The default is a thousand.
_QUEUED = 16


def download_file(objects: S3Objects, key: str, path: Path) -> bool:
    """Downloads an object to a file, which appears under its name only when it is complete.

    Args:
        objects: the bucket and prefix.
        key: the key of the object below the prefix.
        path: the file; its folder is created.

    Returns:
        False if there is no such object.

    Raises:
        Failure: the storage cannot be used, the object changed during the download, or the disk is full.
    """
    from boto3.exceptions import Boto3Error
    from boto3.s3.transfer import TransferConfig
    from botocore.exceptions import ClientError

    where = f"{objects.uri}/{key}"
    config = TransferConfig(max_concurrency=_MAX_CONCURRENCY, max_io_queue=_QUEUED)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with translate_s3_errors(where):
            try:
                objects.client.download_file(objects.bucket, objects.prefix + key, str(path), Config=config)
            except ClientError as error:
                if code_of(error) in ("404", "NoSuchKey"):
                    return False
                raise
    except Boto3Error as error:
        raise Failure(
            f"The object could not be downloaded completely: {error}",
            where=where,
            remedy="check the network and that nothing writes to the object, then run again",
            exit_code=ExitCode.UNREACHABLE,
        ) from error
    except OSError as error:
        raise disk_failure(error, path) from error
    return True
