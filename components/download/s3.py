"""A corpus under a prefix of a bucket."""

from __future__ import annotations

from pathlib import Path

from components.download.splits import SPLIT_FILES
from components.shared.events import emit
from components.shared.failure import Failure
from components.shared.manifest import write_atomically


def download_prefix(address: str, folder: Path) -> Path:
    """Downloads the files of splits that stand right below a prefix.

    Raises:
        Failure: there are none, or the storage cannot be used.
    """
    from components.shared.store_s3 import S3Objects

    objects = S3Objects(address)
    names = sorted(SPLIT_FILES.intersection(objects.keys("")))
    if not names:
        raise Failure(
            "There is no corpus under the prefix",
            where=f"{objects.uri} at {objects.client.meta.endpoint_url}",
            remedy="give --corpus the prefix of train.txt, validation.txt, test.txt, or of WikiText's own file names",
        )
    for done, name in enumerate(names, start=1):
        write_atomically(folder / name, objects.get(name) or b"")
        emit("progress", step="download", done=done, total=len(names))
    return folder
