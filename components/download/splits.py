"""Finds the three split files of a folder by name."""

from __future__ import annotations

from pathlib import Path

from components.download.tables import TABLE_FILE
from components.shared.base.failure import Failure
from components.shared.text.articles import SPLIT_FILE

_RELEASED = {"train": "wiki.train", "validation": "wiki.valid", "test": "wiki.test"}
RELEASED_NAMES = [{split: f"{stem}.{ending}" for split, stem in _RELEASED.items()} for ending in ("tokens", "raw")]
_NAMINGS = (*RELEASED_NAMES, SPLIT_FILE, *TABLE_FILE)
KNOWN_NAMES = {name for names in _NAMINGS for name in names.values()}
_WANTED = "wiki.{train,valid,test}.tokens, wiki.{train,valid,test}.raw or {train,validation,test}.{txt,parquet,jsonl}"


def find_splits(folder: Path, address: str) -> dict[str, Path]:
    """Finds the files of the three splits.

    They have WikiText's names, or are called `train`, `validation` and `test` with one of the endings `.txt`,
    `.parquet` and `.jsonl`.

    Raises:
        Failure: the folder does not exist, contains no split, lacks a split, or contains two complete corpora.
    """
    if not folder.is_dir():
        what = "The corpus is a file where a folder was expected" if folder.exists() else "There is no such folder"
        raise Failure(what, where=address, remedy=f"give --corpus a folder that holds {_WANTED}")
    namings = sorted(_NAMINGS, key=lambda names: -_present(folder, names))
    if _present(folder, namings[1]) == len(namings[1]):
        first, second = namings[0]["train"], namings[1]["train"]
        raise Failure(
            f"The folder holds more than one corpus: one with {first} and one with {second}",
            where=address,
            remedy="give --corpus a folder that holds one of them",
        )
    naming = namings[0]
    missing = [name for name in naming.values() if not (folder / name).is_file()]
    if len(missing) == len(naming):
        raise Failure(
            "The folder holds no corpus", where=address, remedy=f"give --corpus a folder that holds {_WANTED}"
        )
    if missing:
        raise Failure(
            f"The corpus lacks a split: there is no {' and no '.join(missing)}",
            where=address,
            remedy="add the missing file; all three splits are needed",
        )
    return {split: folder / name for split, name in naming.items()}


def has_released_names(files: dict[str, Path]) -> bool:
    """Whether the files have the names of a release of WikiText."""
    return {split: path.name for split, path in files.items()} in RELEASED_NAMES


def _present(folder: Path, names: dict[str, str]) -> int:
    return sum((folder / name).is_file() for name in names.values())
