"""Data sets of the Hugging Face Hub: releases of WikiText-2, rebuilt from their rows, and data sets of users."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from components.download.address import HUB, data_set_of
from components.download.tables import data_set_files
from components.shared.base.events import emit
from components.shared.base.failure import Failure, first_line
from components.shared.model.hub_errors import hub_failure, is_offline
from components.shared.storage.files import write_atomically
from components.shared.text.articles import SPLIT_FILE, SPLITS

REPOSITORY = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
# The formats that `datasets` reads as tables of text, and the card, which may assign the files to splits.
_DATA_FILES = ["README.md", "*.parquet", "*.json", "*.jsonl", "*.csv", "*.txt", "*.jsonl.gz", "*.jsonl.zst"]
_TIMEOUT = 5.0  # seconds
_PAUSE = 1.0  # seconds between two attempts


def address(name: str) -> str:
    """Returns the address of a release, for messages."""
    return f"https://huggingface.co/datasets/{REPOSITORY} ({name}, revision {REVISION[:12]})"


def rebuild(rows: Iterable[str]) -> bytes:
    """Rebuilds the bytes of a split from its rows: the Hub stores a line of one space as an empty row."""
    return "".join(row or " \n" for row in rows).encode()


def download_release(name: str, folder: Path) -> dict[str, Path]:
    """Downloads the pinned revision of a release.

    The files are downloaded by the name of the data set on the Hub: `datasets` would prefer a folder of that name in
    the working directory.

    Args:
        name: the name of the configuration.
        folder: the output folder for the split files.

    Returns:
        The files by split.

    Raises:
        Failure: the Hub cannot be reached (without a network this takes seconds) or refuses, or the cache cannot be
            written or is damaged.
    """
    snapshot = _snapshot(f"The corpus {name}", address(name), REPOSITORY, REVISION, [f"{name}/*.parquet"])
    files = {split: folder / SPLIT_FILE[split] for split in SPLITS}
    for done, (split, path) in enumerate(files.items(), start=1):
        write_atomically(path, rebuild(_rows(snapshot / name, split)))
        emit("progress", step="download", done=done, total=len(files))
    return files


def download_data_set(corpus: str, column: str, folder: Path) -> tuple[dict[str, Path], str]:
    """Downloads a data set.

    Args:
        corpus: `hf://owner/name[@revision]`.
        column: the name of the column with the text.
        folder: the output folder for the split files.

    Returns:
        The files by split, and the address with the commit that was downloaded.

    Raises:
        Failure: see `download_release` and `data_set_files`.
    """
    repository, revision = data_set_of(corpus)
    snapshot = _snapshot(f"The data set {repository}", corpus, repository, revision, _DATA_FILES)
    source = f"{HUB}{repository}@{snapshot.name}"  # the cache names the folder of a snapshot by its commit
    return data_set_files(snapshot, column, folder, source), source


def _snapshot(what: str, where: str, repository: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        if not is_offline():
            _check_reachable()
        return Path(
            snapshot_download(
                repository,
                repo_type="dataset",
                revision=revision,
                allow_patterns=patterns,
                etag_timeout=_TIMEOUT,
            )
        )
    except Exception as error:
        raise hub_failure(
            error,
            f"{what} cannot be downloaded from the Hub",
            where,
            "give --corpus or WIKIGPT_CORPUS a local folder, an https:// archive or an s3:// prefix that holds it, or"
            " --corpus sample for the project's own small text",
        ) from error


def _rows(folder: Path, split: str) -> list[str]:
    """Returns the rows of a split from its Parquet files, in the order of their names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths = sorted(folder.glob(f"{split}-*.parquet"))
    try:
        if not paths:
            raise FileNotFoundError(f"there is no {split}-*.parquet")
        return [row for path in paths for row in pq.read_table(path, columns=["text"])["text"].to_pylist()]
    except (OSError, pa.ArrowException, KeyError) as error:
        raise Failure(
            f"The cached files of the {split} split from the Hub are damaged: {first_line(error)[:200]}",
            where=str(folder),
            remedy="delete that folder and the files that it links to, or set HF_HOME to another folder, and run again",
        ) from error


def _check_reachable() -> None:
    """Requests one header with a short time-out, because the library would wait and retry for minutes.

    A dropped connection is retried; a failed name resolution, as without a network, is not.

    Raises:
        Exception: the Hub did not answer; it is the error of the last attempt.
    """
    trouble: list[Exception] = [TimeoutError(f"no answer in {_TIMEOUT:g} s")]

    def ask() -> None:
        import requests

        until = time.monotonic() + _TIMEOUT
        while trouble:
            try:
                requests.head(os.environ.get("HF_ENDPOINT") or "https://huggingface.co", timeout=_TIMEOUT)
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
    asking.join(2 * _TIMEOUT)
    if trouble:
        raise trouble[0]
