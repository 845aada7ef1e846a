"""Downloads a corpus from a prefix of a bucket."""

from __future__ import annotations

from pathlib import Path

from components.download.splits import KNOWN_NAMES
from components.shared.base.events import emit
from components.shared.base.failure import Failure
from components.shared.storage.s3 import S3Objects


def download_prefix(address: str, folder: Path) -> Path:
    """Downloads the split files directly below a prefix. It needs permission to read objects, not to list them.

    Raises:
        Failure: the prefix has no split files, or the storage cannot be used.
    """
    from components.shared.storage.s3_files import download_file

    objects = S3Objects(address)
    done = 0
    for name in sorted(KNOWN_NAMES):
        if download_file(objects, name, folder / name):
            done += (folder / name).stat().st_size
            emit("progress", step="download", done=done, total=None)
    if not done:
        raise Failure(
            "There is no corpus under the prefix",
            where=f"{objects.uri} at {objects.client.meta.endpoint_url}",
            remedy="give --corpus the prefix of train.txt, validation.txt, test.txt, or of WikiText's own file names",
        )
    return folder
