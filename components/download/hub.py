"""A release of WikiText-2 from the Hugging Face Hub, whose rows rebuild the released bytes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from components.shared.base.events import emit
from components.shared.base.failure import Failure
from components.shared.model.hub_errors import hub_failure, is_offline
from components.shared.storage.files import write_atomically
from components.shared.text.articles import SPLIT_FILE, SPLITS

REPOSITORY = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
_PATIENCE = 5.0  # seconds
_PAUSE = 1.0  # seconds between two attempts


def address(name: str) -> str:
    """The address of a release, for messages."""
    return f"https://huggingface.co/datasets/{REPOSITORY} ({name}, revision {REVISION[:12]})"


def rebuild(rows: Iterable[str]) -> bytes:
    """The bytes of a split from its rows: the Hub stores a line of one blank as an empty row."""
    return "".join(row or " \n" for row in rows).encode()


def download_release(name: str, folder: Path) -> dict[str, Path]:
    """Downloads the pinned revision of a release.

    The files are downloaded by the name of the data set on the Hub: `datasets` would prefer a folder of that name in
    the working directory.

    Args:
        name: of the configuration.
        folder: where a file for each split is written.

    Returns:
        The files by split.

    Raises:
        Failure: the Hub cannot be reached, which takes seconds without a network; it refuses; or the cache cannot be
            written or is damaged.
    """
    if not is_offline():
        _check_reachable(name)
    snapshot = _snapshot(name)
    files = {split: folder / SPLIT_FILE[split] for split in SPLITS}
    for done, (split, path) in enumerate(files.items(), start=1):
        write_atomically(path, rebuild(_rows(snapshot / name, split)))
        emit("progress", step="download", done=done, total=len(files))
    return files


def _snapshot(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                REPOSITORY,
                repo_type="dataset",
                revision=REVISION,
                allow_patterns=[f"{name}/*.parquet"],
                etag_timeout=_PATIENCE,
            )
        )
    except Exception as error:
        raise _failure(name, error) from error


def _rows(folder: Path, split: str) -> list[str]:
    """The rows of a split, from its parquet files in the order of their names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob(f"{split}-*.parquet"))
    try:
        if not paths:
            raise FileNotFoundError(f"there is no {split}-*.parquet")
        return [row for path in paths for row in pq.read_table(path, columns=["text"])["text"].to_pylist()]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise Failure(
            f"The cached files of the {split} split from the Hub are damaged: {_first_line(error)}",
            where=str(folder),
            remedy="delete that folder and the files that it links to, or set HF_HOME to another folder, and run again",
        ) from error


def _check_reachable(name: str) -> None:
    """Requests one header with a short time-out, because the library would wait and retry for minutes.

    A dropped connection is retried; a failed name resolution, as without a network, is not.

    Raises:
        Failure: the Hub does not answer.
    """
    trouble: list[Exception] = [TimeoutError(f"no answer in {_PATIENCE:g} s")]

    def ask() -> None:
        import requests

        until = time.monotonic() + _PATIENCE
        while trouble:
            try:
                requests.head(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", timeout=_PATIENCE)
                trouble.clear()
            except requests.RequestException as error:
                trouble[0] = error
                hopeless = isinstance(error, ValueError) or "NameResolutionError" in repr(error)
                if hopeless or time.monotonic() > until:
                    return
                time.sleep(_PAUSE)

    # In a thread, since looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _PATIENCE)
    if trouble:
        raise _failure(name, trouble[0])


def _failure(name: str, error: Exception) -> Failure:
    return hub_failure(
        error,
        f"The corpus {name} cannot be downloaded from the Hub",
        address(name),
        "give --corpus or WIKIGPT_CORPUS a local folder, an https:// archive or an s3:// prefix that holds it, or"
        " --corpus sample for the project's own small text",
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
