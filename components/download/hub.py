"""A release of WikiText-2 from the Hugging Face Hub, whose rows rebuild the released bytes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from components.shared.articles import SPLIT_FILE, SPLITS
from components.shared.events import emit
from components.shared.failure import ExitCode, Failure
from components.shared.storage.files import write_atomically

REPOSITORY = "Salesforce/wikitext"
REVISION = "b08601e04326c79dfdd32d625aee71d232d685c3"
_PATIENCE = 5.0  # seconds
_PAUSE = 1.0  # seconds between two attempts


def address(name: str) -> str:
    """Where a release stands, for people."""
    return f"https://huggingface.co/datasets/{REPOSITORY} ({name}, revision {REVISION[:12]})"


def rebuild(rows: Iterable[str]) -> bytes:
    """The bytes of a split from its rows: the Hub stores the line of one blank as an empty row."""
    return "".join(row or " \n" for row in rows).encode()


def download_release(name: str, folder: Path) -> dict[str, Path]:
    """Downloads the pinned revision of a release.

    Args:
        name: of the configuration.
        folder: where a file for each split is written.

    Returns:
        The files by split.

    Raises:
        Failure: the Hub cannot be reached, within seconds where there is no network at all, or answers nonsense.
    """
    if not _offline():
        _check_reachable(name)
    import datasets

    datasets.disable_progress_bars()
    try:
        release = datasets.load_dataset(REPOSITORY, name, revision=REVISION)
    except Exception as error:
        raise _unreachable(name, f"{type(error).__name__}: {_first_line(error)}") from error
    files = {split: folder / SPLIT_FILE[split] for split in SPLITS}
    for done, (split, path) in enumerate(files.items(), start=1):
        write_atomically(path, rebuild(release[split]["text"]))
        emit("progress", step="download", done=done, total=len(files))
    return files


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def _check_reachable(name: str) -> None:
    """Asks for one header with short patience, before a library that waits and repeats for minutes.

    A connection that is dropped is tried again; a name that nobody knows, as without a network, is not.

    Raises:
        Failure: nothing answers.
    """
    trouble = [f"no answer in {_PATIENCE:g} s"]

    def ask() -> None:
        import requests

        until = time.monotonic() + _PATIENCE
        while trouble:
            try:
                requests.head(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), timeout=_PATIENCE)
                trouble.clear()
            except requests.RequestException as error:
                trouble[0] = type(error).__name__
                if "NameResolutionError" in repr(error) or time.monotonic() > until:
                    return
                time.sleep(_PAUSE)

    # In a thread, since looking up a name has no time limit of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _PATIENCE)
    if trouble:
        raise _unreachable(name, trouble[0])


def _unreachable(name: str, why: str) -> Failure:
    return Failure(
        f"The corpus {name} cannot be had from the Hub: {why}",
        where=address(name),
        remedy=(
            "give --corpus or WIKIGPT_CORPUS a local folder, an https:// archive or an s3:// prefix that holds it,"
            " or --corpus sample for the project's own small text"
        ),
        exit_code=ExitCode.UNREACHABLE,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
